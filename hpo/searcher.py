"""Ray's searcher over the ledger: trials come from it, and every epoch and every end goes into it."""

import time
from typing import Any, Protocol

from ray.tune import Callback
from ray.tune.schedulers import TrialScheduler
from ray.tune.search import Searcher

from hpo.checkpoints import CheckpointStore
from hpo.interrupts import Interruption
from hpo.ledger import Assignment, Ledger
from hpo.records import TrialRecord
from hpo.rungs import METRIC, replay
from hpo.spec import RunOptions, trial_config
from trainables.config import EpochResult

_EPOCH_FIELDS = tuple(EpochResult.__dataclass_fields__)


class Listener(Protocol):
    """Who wants to know how a study goes on."""

    def started(self, assignment: Assignment) -> None:
        """A trial was given to Ray."""

    def epoch(self, number: int, result: EpochResult) -> None:
        """A trial reported an epoch."""

    def ended(self, number: int, state: str, error: str | None) -> None:
        """A trial left RUNNING; a FAIL has an error."""


class LedgerSearch(Searcher):
    """Hands out the ledger's trials and records what becomes of them.

    Ray asks for a trial with `suggest`, tells each epoch with `on_trial_result`, and ends with `on_trial_complete`:
    of a trial that ran to its last epoch, of one that ASHA stopped (its last epoch comes only here), or of one that
    failed, whose error `RunWatch` brings a moment later.
    """

    def __init__(
        self,
        ledger: Ledger,
        options: RunOptions,
        scheduler: TrialScheduler,
        interrupted: list[TrialRecord],
        checkpoints: str,
        threads: int,
        listener: Listener,
    ) -> None:
        super().__init__(metric=METRIC, mode="max")
        self._ledger = ledger
        self._options = options
        self._scheduler = scheduler
        self._interrupted = {record.number: record for record in interrupted}
        self._checkpoints = checkpoints
        self._threads = threads
        self._listener = listener
        self._left = len(interrupted) + max(0, options.trials - ledger.n_trials)
        self._deadline = None if options.timeout_s is None else time.monotonic() + options.timeout_s
        self.numbers: dict[str, int] = {}

    @property
    def out_of_time(self) -> bool:
        """Whether the run's time is over: no trial is started, and none goes on behind its current epoch."""
        return self._deadline is not None and time.monotonic() >= self._deadline

    def suggest(self, trial_id: str) -> Any:
        """Return the next trial's configuration for `Worker`, or FINISHED when the study has its trials."""
        if self._left == 0 or self.out_of_time:
            return str(Searcher.FINISHED)
        self._left -= 1
        assignment = self._ledger.ask()
        self.numbers[trial_id] = assignment.number
        if assignment.number in self._interrupted:
            replay(self._scheduler, trial_id, self._interrupted[assignment.number])
        self._listener.started(assignment)
        config = trial_config(
            self._ledger.spec, self._options.data_dir, assignment.params, assignment.number, self._threads
        )
        return {
            "number": assignment.number,
            "trial": config,
            "reported": assignment.reported,
            "checkpoints": self._checkpoints,
        }

    def on_trial_result(self, trial_id: str, result: dict[str, Any]) -> None:
        """Record an epoch after which the trial goes on."""
        self._record(self.numbers[trial_id], result)

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        """Record the end of a trial, unless it failed or the run's time is over, when the next run adopts it."""
        if error or result is None:
            return
        number = self.numbers[trial_id]
        self._record(number, result)
        complete = result["epoch"] >= result["epochs"]
        if complete or not self.out_of_time:
            self.finish(number, "COMPLETE" if complete else "PRUNED")

    def finish(self, number: int, state: Any, error: str | None = None) -> None:
        """Record the end of trial `number`, drop its checkpoint and tell the listener."""
        self._ledger.finish(number, state, error=error)
        CheckpointStore(self._checkpoints).remove(number)
        self._listener.ended(number, state, error)

    def _record(self, number: int, result: dict[str, Any]) -> None:
        epoch = EpochResult(**{name: result[name] for name in _EPOCH_FIELDS})
        if self._ledger.report(number, epoch, host=result["host"], device=result["device"]):
            self._listener.epoch(number, epoch)

    def __getstate__(self) -> dict[str, Any]:
        """Give Ray, which pickles its experiment, nothing to keep: the ledger has it all."""
        return {}

    def save(self, checkpoint_path: str) -> None:
        """Keep nothing: the ledger has it all."""

    def restore(self, checkpoint_path: str) -> None:
        """Restore nothing: the ledger has it all."""


class RunWatch(Callback):
    """Records a trial that failed after its retries, with the error that Ray keeps apart from the searcher.

    Between two of Ray's steps it also sees to it that an interruption gets through.
    """

    def __init__(self, search: LedgerSearch, interruption: Interruption) -> None:
        self._search = search
        self._interruption = interruption

    def on_step_end(self, iteration: int, trials: list[Any], **info: Any) -> None:
        """Stop here if the user asked for it."""
        self._interruption.check()

    def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """Record the failed trial's error: the last line of its traceback."""
        lines = str(trial.get_error() or "unknown error").strip().splitlines()
        self._search.finish(self._search.numbers[trial.trial_id], "FAIL", error=lines[-1].strip())
