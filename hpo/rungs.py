"""ASHA's rungs: Ray's scheduler made from a study's specification, and filled again from its ledger."""

import dataclasses
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, cast

from ray.tune.schedulers import ASHAScheduler, FIFOScheduler, TrialScheduler

from hpo.records import TrialRecord
from hpo.spec import StudySpec

METRIC = "val_accuracy"
TIME = "epoch"


@dataclass(frozen=True)
class ReplayedTrial:
    """As much of Ray's trial as its scheduler looks at."""

    trial_id: str


def scheduler(spec: StudySpec, max_epochs: int) -> TrialScheduler:
    """Return Ray's ASHA for trials of up to `max_epochs` epochs, or a scheduler that stops none."""
    if not spec.asha:
        return FIFOScheduler()
    return ASHAScheduler(
        time_attr=TIME,
        metric=METRIC,
        mode="max",
        grace_period=spec.grace_period,
        reduction_factor=spec.reduction_factor,
        max_t=max_epochs,
    )


def replay(target: TrialScheduler, trial_id: str, record: TrialRecord) -> None:
    """Tell a fresh scheduler what the ledger knows of one trial, so that its rungs are what they were.

    Args:
        target: The scheduler to fill.
        trial_id: The name under which the scheduler will meet the trial again, or any other where it will not.
        record: The trial's epochs.
    """
    # Ray's schedulers look at no more of the controller and the trial than this.
    controller, trial = cast(Any, None), cast(Any, ReplayedTrial(trial_id))
    target.on_trial_add(controller, trial)
    for result in record.curve:
        target.on_trial_result(controller, trial, dataclasses.asdict(result))
    if record.state in ("COMPLETE", "PRUNED") and record.curve:
        target.on_trial_complete(controller, trial, dataclasses.asdict(record.curve[-1]))


def replay_finished(target: TrialScheduler, records: Iterable[TrialRecord]) -> None:
    """Replay every trial that has ended."""
    for record in records:
        if record.state != "RUNNING":
            replay(target, f"ledger-{record.number}", record)
