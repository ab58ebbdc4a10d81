"""A trial in float16 continues from its checkpoint as if it had never stopped, its gradient scaler included."""

import io
from pathlib import Path
from typing import Any

import torch
from torch.optim.lr_scheduler import ReduceLROnPlateau

from tests.gpu.card import NEEDS_CARD, numbers, trial
from trainables.training.checkpoint import restore
from trainables.training.trial import begin, run_trial

pytestmark = NEEDS_CARD


def scaler_in(checkpoint: bytes) -> dict[str, Any]:
    state: dict[str, Any] = torch.load(io.BytesIO(checkpoint), weights_only=True)["scaler"]
    return state


def test_a_trial_in_float16_continues_number_for_number(tmp_path: Path) -> None:
    config = trial(tmp_path, precision="fp16")
    whole_saved: list[bytes] = []
    whole = list(run_trial(config, save=whole_saved.append))
    saved: list[bytes] = []
    next(run_trial(config, save=saved.append))

    resumed = list(run_trial(config, resume_from=saved[0], save=saved.append))

    assert len(saved) == 3
    assert all(result.is_finite for result in whole)
    assert numbers(resumed) == numbers(whole)
    assert scaler_in(saved[-1]) == scaler_in(whole_saved[-1])


def test_the_scaler_of_a_trial_in_float16_is_restored(tmp_path: Path) -> None:
    config = trial(tmp_path, precision="fp16")
    saved: list[bytes] = []
    next(run_trial(config, save=saved.append))
    learner, _ = begin(config)
    fresh = learner.scaler.state_dict()

    restore(saved[0], learner, ReduceLROnPlateau(learner.optimizer))

    assert learner.scaler.is_enabled()
    # It counts the steps since the scale was last changed.
    assert scaler_in(saved[0])["_growth_tracker"] > fresh["_growth_tracker"] == 0
    assert learner.scaler.state_dict() == scaler_in(saved[0])
