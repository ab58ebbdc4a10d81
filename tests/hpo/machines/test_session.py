"""A Ray of this machine's own gives trials what the machine gives: its CPUs, ordinary priority, threads that sleep."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
LOOK = """
import os
import ray
from hpo.machines.session import nodes, ray_session

def see():
    import trainables
    import torch
    return os.getpriority(os.PRIO_PROCESS, 0), os.environ.get("GOMP_SPINCOUNT"), os.environ.get("OMP_WAIT_POLICY")

with ray_session("local"):
    print(nodes()[0].cpus, *ray.get(ray.remote(see).remote()))
"""


def seen(**environment: str) -> list[str]:
    """Start Ray on one of this machine's CPUs, and return its CPUs and a worker's niceness and ways of waiting."""
    given = {name: value for name, value in os.environ.items() if name not in ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY")}
    answer = subprocess.run(
        [sys.executable, "-c", LOOK],
        env={**given, "PYTHONPATH": str(ROOT), **environment},
        preexec_fn=lambda: os.sched_setaffinity(0, {min(os.sched_getaffinity(0))}),
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    )
    return answer.stdout.split()


def test_a_session_respects_the_cpus_it_was_given_and_trains_at_ordinary_priority() -> None:
    assert seen() == ["1.0", "0", "3000", "None"]


@pytest.mark.slow
def test_a_users_own_settings_win() -> None:
    assert seen(RAY_worker_niceness="7", OMP_WAIT_POLICY="PASSIVE") == ["1.0", "7", "None", "PASSIVE"]
