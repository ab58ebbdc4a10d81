"""ASHA's rungs: Ray's scheduler for each study's trials, filled again from the study's ledger."""

import dataclasses
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, cast

from ray.tune.experiment import Trial
from ray.tune.schedulers import ASHAScheduler, FIFOScheduler, TrialScheduler

from hpo.ledger.records import TrialRecord
from hpo.spec import SearchConfig

METRIC = "val_accuracy"
TIME = "epoch"

# Ray's schedulers look at no more of the controller than this.
_CONTROLLER = cast(Any, None)


@dataclass(frozen=True)
class SchedulerTrial:
    """As much of Ray's trial as its scheduler looks at; the same however often the trial is given to Ray."""

    trial_id: str


def scheduler_trial(number: int) -> Any:
    """Return a study's trial as its scheduler knows it."""
    return SchedulerTrial(f"trial-{number}")


def scheduler(search: SearchConfig, max_epochs: int) -> TrialScheduler:
    """Return Ray's ASHA for trials of up to `max_epochs` epochs, or a scheduler that stops none."""
    if not search.asha:
        return FIFOScheduler()
    return ASHAScheduler(
        time_attr=TIME,
        metric=METRIC,
        mode="max",
        grace_period=search.grace_period,
        reduction_factor=search.reduction_factor,
        max_t=max_epochs,
    )


def replay(target: TrialScheduler, records: Iterable[TrialRecord]) -> None:
    """Report the ledger's trials of a study to a fresh scheduler, so that its rungs are what they were."""
    for record in records:
        trial = scheduler_trial(record.number)
        target.on_trial_add(_CONTROLLER, trial)
        for result in record.curve:
            target.on_trial_result(_CONTROLLER, trial, dataclasses.asdict(result))
        if record.state in ("COMPLETE", "PRUNED") and record.curve:
            target.on_trial_complete(_CONTROLLER, trial, dataclasses.asdict(record.curve[-1]))


class EachStudysRungs(FIFOScheduler):
    """Lets each trial be judged by its own study's scheduler; trials start in the order in which they were drawn."""

    def __init__(self, schedulers: dict[str, TrialScheduler]) -> None:
        super().__init__()
        self._schedulers = schedulers
        self._waiting: deque[Any] = deque()

    def on_trial_add(self, tune_controller: Any, trial: Any) -> None:
        """Let the study's scheduler know a trial that is to run, or to run again."""
        self._waiting.append(trial)
        self._of(trial).on_trial_add(tune_controller, scheduler_trial(trial.config["number"]))

    def choose_trial_to_run(self, tune_controller: Any) -> Any:  # noqa: ARG002 - Ray's signature
        """Return the trial that has waited longest, if one waits; Ray's own way looks at every trial that ever ran."""
        while self._waiting and self._waiting[0].status != Trial.PENDING:
            self._waiting.popleft()
        return self._waiting[0] if self._waiting else None

    def on_trial_result(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> str:
        """Return whether the trial continues or stops."""
        own = scheduler_trial(trial.config["number"])
        decision: str = self._of(trial).on_trial_result(tune_controller, own, result)
        return decision

    def on_trial_complete(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> None:
        """Let the study's scheduler know a trial's last epoch."""
        self._of(trial).on_trial_complete(tune_controller, scheduler_trial(trial.config["number"]), result)

    def _of(self, trial: Any) -> TrialScheduler:
        return self._schedulers[trial.config["study"]]
