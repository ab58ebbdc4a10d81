"""Ray's searcher over the ledger: trials come from it, and every epoch and every end goes into it."""

import re
import time
from pathlib import Path
from typing import Any, Protocol

import ray
from ray import cloudpickle
from ray.exceptions import RayActorError, RayError
from ray.tune import Callback
from ray.tune.schedulers import TrialScheduler
from ray.tune.search import Searcher

from hpo.checkpoints import CheckpointStore
from hpo.errors import HpoError, NoSpaceError
from hpo.interrupts import Interruption
from hpo.ledger import Assignment, Ledger
from hpo.placement import Placement
from hpo.records import Ending, TrialRecord
from hpo.rungs import METRIC, replay
from hpo.spec import RunOptions, trial_config
from trainables.config import EpochResult, FreezeMode

SAME_FAILURES = 3
"""So many trials that fail alike, before any has finished an epoch, are no bad luck: the study stops."""

RAY_ANSWER_S = 30.0
"""How long an empty task may take before Ray counts as dead."""
NODES_LOOK_S = 2.0
"""Between two looks at which machines are alive."""

_EPOCH_FIELDS = tuple(EpochResult.__dataclass_fields__)


class Listener(Protocol):
    """Who wants to know how a study goes on."""

    def started(self, assignment: Assignment) -> None:
        """A trial was given to Ray."""

    def epoch(self, number: int, result: EpochResult) -> None:
        """A trial reported an epoch."""

    def restarted(self, number: int, reason: str) -> None:
        """A trial that had epochs begins at epoch 0 again."""

    def ended(self, number: int, state: str, error: str | None) -> None:
        """A trial left RUNNING; a FAIL has an error, and so has a PRUNED one that diverged."""


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
        placement: Placement,
        listener: Listener,
    ) -> None:
        super().__init__(metric=METRIC, mode="max")
        self._ledger = ledger
        self._options = options
        self._scheduler = scheduler
        self._interrupted = {record.number: record for record in interrupted}
        self._checkpoints = checkpoints
        self._placement = placement
        self._modes: dict[int, FreezeMode] = {}
        self._listener = listener
        self._left = len(interrupted) + max(0, options.trials - ledger.n_trials)
        self._deadline = None if options.timeout_s is None else time.monotonic() + options.timeout_s
        self._restarted: set[int] = set()
        self._first_errors: list[str] | None = []
        self.numbers: dict[str, int] = {}
        self.failure: HpoError | None = None

    @property
    def stopping(self) -> bool:
        """Whether the run is over, out of time or failed: no trial starts, none goes on behind its epoch."""
        return self.failure is not None or (self._deadline is not None and time.monotonic() >= self._deadline)

    def suggest(self, trial_id: str) -> Any:
        """Return the next trial's configuration for `Worker`, FINISHED when the study has its trials, None to wait."""
        if self._left == 0 or self.stopping:
            return str(Searcher.FINISHED)
        if not self._placement.has_room(self._modes.values()):
            # A trial that had to wait for a GPU would be drawn without what the running ones teach.
            return None
        self._left -= 1
        assignment = self._ledger.ask()
        self.numbers[trial_id] = assignment.number
        if assignment.number in self._interrupted:
            replay(self._scheduler, trial_id, self._interrupted[assignment.number])
        self._listener.started(assignment)
        mode = self._modes[assignment.number] = assignment.params["freeze_mode"]
        config = trial_config(
            self._ledger.spec,
            self._options,
            assignment.params,
            assignment.number,
            self._placement.share(mode).threads,
            self._ledger.micro_batch(assignment.params),
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
        """Record the end of a trial, unless it failed or the run is over, when the next run adopts it."""
        if error or result is None:
            return
        number, last = self.numbers[trial_id], epoch_result(result)
        reason = None if last.is_finite else f"diverged: the loss is not finite after epoch {last.epoch}"
        complete = last.is_finite and last.epoch >= result["epochs"]
        if self.stopping and last.is_finite and not complete:
            # Whether ASHA stops it here is for the next run to say: the checkpoint gives it this epoch again.
            return
        ending: Ending = "COMPLETE" if complete else "PRUNED"
        self._ledger.intend(number, ending, epoch=last.epoch, error=reason)
        self._record(number, result)
        self.finish(number, ending, reason)

    def fail(self, trial_id: str, error: str) -> None:
        """Record a trial that failed for good; stop a study whose first trials all fail alike."""
        self.finish(self.numbers[trial_id], "FAIL", error)
        if self._first_errors is None:
            return
        self._first_errors.append(error)
        if len(self._first_errors) == SAME_FAILURES and len(set(self._first_errors)) == 1:
            self.stop(HpoError(f"the first {SAME_FAILURES} trials all failed with {error}; mend that"))

    def stop(self, failure: HpoError) -> HpoError:
        """End the run, for a reason that is none of a trial's: those that run stay RUNNING for the next run."""
        if self.failure is None:
            self.failure = type(failure)(f"{failure}; go on with: hpo resume {self._ledger.name}")
        return self.failure

    def finish(self, number: int, state: Ending, error: str | None = None) -> None:
        """Record the end of trial `number`, drop its checkpoint and tell the listener."""
        self._ledger.finish(number, state, error=error)
        del self._modes[number]
        CheckpointStore(self._checkpoints).remove(number)
        self._listener.ended(number, state, error)

    def _record(self, number: int, result: dict[str, Any]) -> None:
        self._first_errors = None
        epoch = epoch_result(result)
        if result["restarted"] is not None and number not in self._restarted:
            self._restarted.add(number)
            self._listener.restarted(number, result["restarted"])
        if result["micro_batch"] is not None:
            self._ledger.remember_micro_batch(number, result["micro_batch"])
        if self._ledger.report(number, epoch, host=result["host"], device=result["device"]):
            self._listener.epoch(number, epoch)

    def __getstate__(self) -> dict[str, Any]:
        """Give Ray, which pickles its experiment, nothing to keep: the ledger has it all."""
        return {}

    def save(self, checkpoint_path: str) -> None:
        """Keep nothing: the ledger has it all."""

    def restore(self, checkpoint_path: str) -> None:
        """Restore nothing: the ledger has it all."""


def epoch_result(result: dict[str, Any]) -> EpochResult:
    """Return the epoch in what Ray reports of a trial."""
    return EpochResult(**{name: result[name] for name in _EPOCH_FIELDS})


class RunWatch(Callback):
    """Records a trial that failed after its retries, with the error that Ray keeps apart from the searcher.

    Between two of Ray's steps it also sees to it that an interruption, and the death of Ray itself, get through.
    """

    def __init__(self, search: LedgerSearch, interruption: Interruption) -> None:
        self._search = search
        self._interruption = interruption
        self._looked_at = time.monotonic()

    def on_step_end(self, iteration: int, trials: list[Any], **info: Any) -> None:
        """Stop here if the user asked for it, or if no machine is left, for which Tune would wait for ever."""
        self._interruption.check()
        if time.monotonic() - self._looked_at > NODES_LOOK_S:
            self._looked_at = time.monotonic()
            if not any(node["Alive"] for node in ray.nodes()):
                raise self._search.stop(HpoError(_RAY_DIED))

    def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """Record the failed trial's error, unless it is none of the trial's: a full disk, or the death of Ray."""
        error = _error_of(trial)
        if isinstance(error, NoSpaceError):
            self._search.stop(NoSpaceError(f"{error}; make room"))
        elif isinstance(error, RayActorError) and not _ray_answers():
            self._search.stop(HpoError(_RAY_DIED))
        else:
            self._search.fail(trial.trial_id, _described(error))


_COLOURS = re.compile(r"\x1b\[[0-9;]*m")
_RAY_DIED = "Ray has died under this study"


def _error_of(trial: Any) -> BaseException:
    """Return what a trial raised, or a RayActorError where its process died."""
    # Ray keeps the error in a file beside the trial; its own reader looks where that comes to lie only later.
    error: BaseException = cloudpickle.loads(Path(trial.pickled_error_file).read_bytes())
    return getattr(error, "cause", None) or error


def _described(error: BaseException) -> str:
    """Return an error in one line: ``ValueError: too large``."""
    lines = _COLOURS.sub("", str(error)).strip().splitlines() or [""]
    # Where a trial's process could not even start, Ray tells its traceback, whose last line is the reason.
    reason = lines[-1] if isinstance(error, RayActorError) and "creation task" in lines[0] else lines[0]
    return f"{type(error).__name__}: {reason}".rstrip(": ")


def _ray_answers() -> bool:
    """Whether Ray still runs what it is given: a process that died may have died alone."""
    try:
        ray.get(ray.remote(num_cpus=0)(_answer).remote(), timeout=RAY_ANSWER_S)
    except RayError:
        return False
    return True


def _answer() -> None:
    """The empty task."""
