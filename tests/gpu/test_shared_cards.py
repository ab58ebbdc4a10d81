"""Trials share a card through Ray, and a process that was given none sees none."""

import json
import os
import subprocess
import sys
from pathlib import Path

import torch

from tests.e2e.shell import ROOT, Shell
from tests.gpu.card import NEEDS_CARD

pytestmark = NEEDS_CARD

SPACE = """
[parameters]
learning_rate = { low = 1e-3, high = 1e-2, log = true }
batch_size = { choices = [64] }
epochs = { low = 30, high = 30 }
freeze_mode = { choices = ["backbone"] }
"""


def test_frozen_trials_train_on_one_card_at_the_same_time_and_a_process_without_a_share_does_not(
    tmp_path: Path,
) -> None:
    answer = subprocess.run(
        [sys.executable, "-m", "tests.gpu.workers", str(tmp_path)],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert answer.returncode == 0, answer.stderr
    first, second, without = json.loads(answer.stdout)

    # Ray gives both the same card where there are more: it fills one before it begins another.
    assert first["device"] == second["device"] == torch.cuda.get_device_name(0)
    assert first["memory_gb"] > 0
    assert second["memory_gb"] > 0
    assert without["device"].startswith("cpu")
    assert without["memory_gb"] is None
    assert all((one["epoch"], one["done"]) == (3, True) for one in (first, second, without))


def test_a_study_runs_its_frozen_trials_on_shares_of_a_card(tmp_path: Path) -> None:
    shell = Shell(tmp_path, SPACE)

    shell.hpo(*shell.asked("--gpus-per-trial", "0.25", "--concurrency", "2", "--no-asha", "--no-retrain", trials=2))

    first, second = shell.trials()
    assert first.state.name == second.state.name == "COMPLETE"
    assert first.user_attrs["device"] == second.user_attrs["device"] == torch.cuda.get_device_name(0)
    assert len(first.intermediate_values) == len(second.intermediate_values) == 30
    # Each began before the other had ended.
    assert first.datetime_start is not None
    assert second.datetime_start is not None
    assert first.datetime_complete is not None
    assert second.datetime_complete is not None
    assert max(first.datetime_start, second.datetime_start) < min(first.datetime_complete, second.datetime_complete)
