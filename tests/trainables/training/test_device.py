"""A process that trains steps back behind others as far as it was asked to, and never forward."""

import os
import subprocess
import sys
from pathlib import Path

STEPS = """
import os
from trainables.training.device import step_back
for nice in (0, 5, 3):
    step_back(nice)
    print(os.getpriority(os.PRIO_PROCESS, 0))
"""


def test_a_process_steps_back_and_never_forward() -> None:
    root = Path(__file__).parents[3]
    environment = {**os.environ, "PYTHONPATH": str(root)}
    before = os.getpriority(os.PRIO_PROCESS, 0)

    answer = subprocess.run([sys.executable, "-c", STEPS], env=environment, capture_output=True, text=True, check=True)

    assert answer.stdout.split() == [str(max(before, nice)) for nice in (0, 5, 5)]
