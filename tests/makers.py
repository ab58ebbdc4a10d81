"""Makers of what many tests need: a search space, a study's specification, an epoch, a ledger's report of one."""

import math
from typing import Any

import search_spaces
from hpo.ledger.ledger import Ledger
from hpo.spec import StudySpec
from trainables.config import EpochResult

SPACE = search_spaces.from_dict(
    {
        "parameters": {
            "learning_rate": {"low": 1e-4, "high": 1e-1, "log": True},
            "batch_size": {"choices": [16, 32]},
            "epochs": {"low": 3, "high": 9, "step": 3},
            "freeze_mode": {"choices": ["none", "backbone"]},
        },
        "enqueue": [{"learning_rate": 1e-2, "batch_size": 32, "epochs": 9, "freeze_mode": "none"}],
    },
    "test",
)


def study_spec(**changes: Any) -> StudySpec:
    """Return the specification of a small study of `SPACE`, but for `changes`."""
    fields: dict[str, Any] = {
        "backbone": "resnet18",
        "weights": "none",
        "weights_sha256": None,
        "head": "projection",
        "dataset": "digits",
        "image_size": None,
        "augment": "none",
        "val_fraction": 0.25,
        "label_fraction": 1.0,
        "splits_sha256": "0" * 64,
        "sampler": "tpe",
        "asha": True,
        "grace_period": 1,
        "reduction_factor": 3.0,
        "precision": "fp32",
        "seed": 7,
        "space": search_spaces.to_dict(SPACE),
    }
    return StudySpec(**{**fields, **changes})


def epoch(number: int, accuracy: float = 0.5, **changes: Any) -> EpochResult:
    """Return epoch `number` of a trial; its training loss is no number that JSON has."""
    fields: dict[str, Any] = {
        "val_loss": 1.0,
        "train_loss": math.inf,
        "learning_rate": 0.1,
        "seconds": 1.0,
        "images_per_second": 10.0,
    }
    return EpochResult(epoch=number, val_accuracy=accuracy, **{**fields, **changes})


def report(ledger: Ledger, trial: int, result: EpochResult) -> bool:
    """Report an epoch as a trial on one machine does."""
    return ledger.report(trial, result, host="10.0.0.1", device="cpu")
