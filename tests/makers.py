"""Makers of what many tests need: a search space, a study's specification, an epoch, a ledger's report of one."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import search_spaces
from hpo.ledger import studies as ledgers
from hpo.ledger.ledger import Ledger
from hpo.ledger.records import State, TrialRecord
from hpo.spec import RunOptions, SearchConfig, StudySpec
from trainables.config import DataConfig, EpochResult, ModelConfig

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
    """Return the specification of a small study of `SPACE`, but for `changes`, whichever group they belong to."""
    data = DataConfig(dataset="digits", splits_sha256="0" * 64)
    model = ModelConfig(backbone="resnet18", weights="none", precision="fp32")
    search = SearchConfig(space=search_spaces.to_dict(SPACE), grace_period=1, reduction_factor=3.0)
    groups: dict[str, Any] = {"data": {**vars(data)}, "model": {**vars(model)}, "search": search.model_dump()}
    fields: dict[str, Any] = {"seed": 7}
    for name, value in changes.items():
        next((group for group in groups.values() if name in group), fields)[name] = value
    return StudySpec.model_validate({**groups, **fields})


def epoch(number: int, accuracy: float = 0.5, **changes: Any) -> EpochResult:
    """Return epoch `number` of a trial."""
    fields: dict[str, Any] = {
        "val_loss": 1.0,
        "train_loss": 1.0,
        "learning_rate": 0.1,
        "seconds": 1.0,
        "images_per_second": 10.0,
    }
    return EpochResult(epoch=number, val_accuracy=accuracy, **{**fields, **changes})


def report(ledger: Ledger, trial: int, result: EpochResult) -> bool:
    """Report an epoch as a trial on one machine does."""
    return ledger.report(trial, result, host="10.0.0.1", device="cpu")


def moved_trial(folder: Path) -> Ledger:
    """Return the ledger of a study whose one trial began on one machine and ended on another."""
    url, splits = f"sqlite:///{folder / 'optuna.db'}", {"train": 12, "validation": 4}
    ledger = ledgers.create(url, "study", study_spec(), RunOptions(trials=1), splits)
    number = ledger.ask().number
    ledger.report(number, epoch(1), host="10.0.0.1", device="cpu")
    ledger.report(number, epoch(2), host="10.0.0.2", device="a card")
    ledger.finish(number, "COMPLETE")
    return ledger


def trial_record(
    number: int,
    state: State,
    accuracies: Sequence[float],
    *,
    params: dict[str, Any] | None = None,
    seconds: float | None = None,
) -> TrialRecord:
    """Return a trial as the ledger has it, with an epoch of one second for each accuracy."""
    curve = tuple(epoch(index, accuracy) for index, accuracy in enumerate(accuracies, 1))
    drawn = {"learning_rate": 1e-3, "batch_size": 32, "epochs": 9, "freeze_mode": "none"}
    return TrialRecord(number, state, {**drawn, **(params or {})}, curve, "10.0.0.1", "cpu (x86_64)", None, seconds)
