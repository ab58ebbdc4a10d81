"""One study's trials while they run: what is handed out next, what is recorded, and how each ends."""

import dataclasses
import logging
from collections import Counter, deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from hpo.errors import EnvironmentFailureError, HpoError
from hpo.ledger.ledger import Ledger
from hpo.ledger.records import Assignment, Ending
from hpo.machines.checkpoints import CheckpointPlace
from hpo.machines.placement import Fit, Placement, Slot, correction, gigabytes
from hpo.paths import StudyPaths, command
from hpo.spec import RunOptions, trainable_config, trial_seed
from trainables.config import EpochResult, FreezeMode, MemoryNeed
from trainables.predictions import unpack
from trainables.trainable import is_own

logger = logging.getLogger(__name__)

SAME_FAILURES = 3
"""The study stops after so many trials that fail alike before any trial has finished an epoch."""

_FORGOTTEN = 64
"""Trials that ended last, whose checkpoints another machine may still keep."""

_EPOCH_FIELDS = tuple(EpochResult.__dataclass_fields__)


class Listener(Protocol):
    """Who wants to know how a study progresses."""

    def started(self, assignment: Assignment) -> None:
        """A trial was given to Ray."""

    def epoch(self, number: int, result: EpochResult, slot: Slot) -> None:
        """A trial reported an epoch, from where it runs."""

    def restarted(self, number: int, reason: str) -> None:
        """A trial that had epochs begins at epoch 0 again."""

    def ended(self, number: int, state: str, error: str | None) -> None:
        """A trial left RUNNING; a FAIL has an error, and so has a PRUNED one that diverged."""

    def retrained(self, result: EpochResult, epochs: int) -> None:
        """A final model, of so many epochs in all, was trained for one more."""


class UnfitError(Exception):
    """A grid's next configuration fits on no machine, and was recorded as FAIL."""


@dataclass(frozen=True)
class StudyRun:
    """A study that is to be run, and all that its trials need to know."""

    ledger: Ledger
    options: RunOptions
    paths: StudyPaths
    checkpoints: CheckpointPlace
    listener: Listener
    needs: Mapping[FreezeMode, MemoryNeed] = field(default_factory=dict)
    """GPU memory by freeze mode; empty where no card says how much it has, and for all trainables but fine-tuning."""


@dataclass(frozen=True)
class Handout:
    """A trial that is to be run, and how."""

    assignment: Assignment
    fit: Fit
    config: dict[str, Any]
    """The configuration that `Worker` gets."""


class StudyTrials:
    """Hands out one study's trials and records what becomes of them.

    A trial that fails, or whose machine is lost, is handed out again, to continue from its checkpoint: after
    `max_failures` failures of its own it is recorded as FAIL. The loss of a machine counts against no trial, nor do
    failures for a reason outside of it: after as many of those without an epoch the study stops, to be resumed.
    """

    def __init__(self, run: StudyRun) -> None:
        interrupted = run.ledger.adopt_interrupted()
        self.ledger = run.ledger
        self._options = run.options
        self._paths = run.paths
        self._checkpoints = run.checkpoints
        self._needs = run.needs
        self._listener = run.listener
        self._new = len(interrupted) + max(0, run.options.trials - run.ledger.n_trials)
        self._again: deque[int] = deque()
        self._fits: dict[int, Fit] = {}
        self._ended: deque[int] = deque(maxlen=_FORGOTTEN)
        self._failures: Counter[tuple[int, bool]] = Counter()
        self._restarted: set[int] = set()
        self._warned: set[tuple[FreezeMode, int]] = set()
        self._warned_of_predictions = False
        self._first_errors: list[str] | None = []
        self._corrections: dict[FreezeMode, float] = {}
        for record in run.ledger.records():
            self._learn(_mode(record.params), record.memory_gb)
        waiting = run.ledger.enqueued_elsewhere
        if waiting:
            logger.warning(
                "study %s: trials %s were enqueued by Optuna itself, and are not run; `enqueue` in a search space names"
                " configurations to try first",
                run.ledger.name,
                ", ".join(map(str, waiting)),
            )
        self.failure: HpoError | None = None
        run.checkpoints.keep_only({record.number for record in interrupted})

    @property
    def left(self) -> int:
        """Trials that are still to be handed out."""
        return 0 if self.failure is not None else self._new + len(self._again)

    @property
    def open(self) -> set[int]:
        """Trials that are handed out and have not ended."""
        return set(self._fits)

    def hand_out(self, placement: Placement) -> Handout:
        """Return the next trial, to be run on the machines of `placement`.

        Raises:
            NothingFitsError: No configuration of the search space fits on them.
            UnfitError: The grid's next configuration does not fit on them; the one after it comes next.
        """
        is_new = not self._again
        if not is_new:
            assignment = self.ledger.again(self._again.popleft())
        else:
            assignment = self.ledger.ask(lambda params: self._accept(params, placement))
            self._new -= 1
            self._listener.started(assignment)
        found = self._fit(assignment.params, placement)
        # A trial begun on larger cards by an earlier run may fit on none of these: it finds its micro-batch by trying.
        fit = found or Fit(placement.whole, None)
        self._fits[assignment.number] = fit
        if found is None and is_new and self.ledger.spec.search.sampler == "grid" and not assignment.reported:
            self._finish(
                assignment.number,
                "FAIL",
                f"fits on none of these machines: {self._shortage(assignment.params, placement)}",
            )
            raise UnfitError
        config = trainable_config(
            self.ledger.spec,
            self._options,
            assignment.params,
            trial_seed(self.ledger.spec, assignment.number),
            fit.share.threads,
            self._micro_batch(assignment.params, fit),
        )
        return Handout(
            assignment,
            fit,
            {
                "study": self.ledger.name,
                "number": assignment.number,
                "trainable": self.ledger.spec.trainable,
                "trial": config,
                "reported": assignment.reported,
                "checkpoints": self._checkpoints,
                "ended": () if self._checkpoints.shared else tuple(self._ended),
                "resources": fit.share,
            },
        )

    def wants_host(self, assignment: Assignment) -> str | None:
        """Return the address of the machine that alone has the trial's checkpoint; None: any will do."""
        return None if self._checkpoints.shared or not assignment.reported else assignment.host

    def record(self, number: int, result: dict[str, Any]) -> None:
        """Record an epoch."""
        self._first_errors = None
        del self._failures[number, True]
        epoch = self._fitting(epoch_result(result))
        if result["restarted"] is not None and number not in self._restarted:
            self._restarted.add(number)
            self._listener.restarted(number, result["restarted"])
        if result["micro_batch"] is not None:
            self.ledger.remember_micro_batch(number, result["micro_batch"])
        if result["memory_gb"] is not None:
            self._note_memory(number, result["memory_gb"])
        if self.ledger.report(number, epoch, host=result["host"], device=result["device"]):
            self._listener.epoch(number, epoch, Slot(result["host"], result["device"], result["card"]))

    def complete(self, number: int, result: dict[str, Any], *, stopping: bool) -> None:
        """Record a trial's last epoch and its end, as its last or because ASHA stopped it there.

        If the run is `stopping`, the next run decides whether ASHA stops the trial here: the checkpoint gives it this
        epoch again.
        """
        last = epoch_result(result)
        reason = None if last.is_finite else f"diverged: the loss is not finite after epoch {last.epoch}"
        complete = last.is_finite and last.epoch >= result["epochs"]
        if stopping and last.is_finite and not complete:
            del self._fits[number]
            return
        ending: Ending = "COMPLETE" if complete else "PRUNED"
        self.ledger.intend(number, ending, epoch=last.epoch, error=reason)
        self.record(number, result)
        self._finish(number, ending, reason)

    def fail(self, number: int, error: str, *, lost: bool, outside: bool = False) -> None:
        """Hand a trial out again after it failed, or record it as FAIL; stop a study whose first trials fail alike.

        A trial that fails again and again for a reason outside of it stops the study, and stays RUNNING.

        Args:
            number: The trial's.
            error: What it failed with.
            lost: Whether its machine is gone, which does not count as a failure of the trial.
            outside: Whether the reason lies outside of the trial's configuration.
        """
        self._failures[number, outside] += not lost
        if self._failures[number, outside] <= self._options.max_failures:
            del self._fits[number]
            self._again.append(number)
            return
        if outside:
            del self._fits[number]
            self.stop(EnvironmentFailureError(f"{error}; fix that"))
            return
        self._finish(number, "FAIL", error)
        if self._first_errors is None:
            return
        self._first_errors.append(error)
        if len(self._first_errors) == SAME_FAILURES and len(set(self._first_errors)) == 1:
            self.stop(HpoError(f"the first {SAME_FAILURES} trials all failed with {error}; fix that"))

    def stop(self, failure: HpoError) -> None:
        """End the study's run: trials that run stay RUNNING for the next one."""
        if self.failure is None:
            # A new study without a trial is not kept.
            again = f"; continue with: {command('resume', [self._paths])}" if self.ledger.n_trials else ""
            self.failure = type(failure)(f"{failure}{again}")

    def _fitting(self, epoch: EpochResult) -> EpochResult:
        """Leave predictions out that are not a class of each validation image, as a user's own trainable may give."""
        if not epoch.val_predictions or not is_own(self.ledger.spec.trainable):
            return epoch
        images, classes = self.ledger.splits.get("validation"), len(self.ledger.splits.get("classes", ()))
        try:
            found = unpack(epoch.val_predictions)
        except ValueError:
            found = None
        if found is not None and len(found) == images and found.max(initial=0) < classes:
            return epoch
        if not self._warned_of_predictions:
            self._warned_of_predictions = True
            logger.warning(
                "study %s: %s yields val_predictions that are not a class of each of the %s validation images"
                " (trainables.predictions.pack); they are left out",
                self.ledger.name,
                self.ledger.spec.trainable,
                images,
            )
        return dataclasses.replace(epoch, val_predictions="")

    def _finish(self, number: int, state: Ending, error: str | None = None) -> None:
        self.ledger.finish(number, state, error=error)
        del self._fits[number]
        self._ended.append(number)
        if self._checkpoints.shared:
            self._checkpoints.store.remove(number)
        self._listener.ended(number, state, error)

    def _fit(self, params: dict[str, Any], placement: Placement) -> Fit | None:
        mode = _mode(params)
        # Without a batch size nobody has estimated what it needs.
        return placement.fit(mode, params.get("batch_size", 1), self._needs.get(mode), self._corrections.get(mode, 1.0))

    def _accept(self, params: dict[str, Any], placement: Placement) -> bool:
        if self._fit(params, placement) is not None:
            return True
        mode, batch_size = _mode(params), params["batch_size"]
        if (mode, batch_size) not in self._warned:
            self._warned.add((mode, batch_size))
            logger.warning(
                "study %s: %s: such configurations are not started, others are drawn instead",
                self.ledger.name,
                self._shortage(params, placement),
            )
        return False

    def _shortage(self, params: dict[str, Any], placement: Placement) -> str:
        """Return what a configuration needs that fits on no card, and what there is."""
        mode = _mode(params)
        needed_gb = gigabytes(self._needs[mode], 2, self._corrections.get(mode, 1.0))
        return (
            f"freeze mode {mode} needs {needed_gb:.1f} GB of GPU memory even with 2 images at a time, the largest card"
            f" has {placement.cards_gb[-1]:.1f}"
        )

    def _micro_batch(self, params: dict[str, Any], fit: Fit) -> int | None:
        sizes = {fit.micro_batch, self.ledger.micro_batch(params)} - {None}
        return min(size for size in sizes if size) if sizes else None

    def _note_memory(self, number: int, measured_gb: float) -> None:
        params = self.ledger.again(number).params
        need = self._needs.get(_mode(params))
        if need is None:
            return
        images = self._micro_batch(params, self._fits[number]) or params["batch_size"]
        estimated_gb = need.bytes_at(images) / 2**30
        self.ledger.note_memory(number, estimated_gb=estimated_gb, measured_gb=measured_gb)
        self._learn(_mode(params), {"estimated": estimated_gb, "measured": measured_gb})

    def _learn(self, mode: FreezeMode, memory_gb: dict[str, float] | None) -> None:
        """Correct the estimates of a freeze mode by the largest ratio that was measured."""
        if memory_gb is not None:
            self._corrections[mode] = max(correction(mode, memory_gb), self._corrections.get(mode, 0.0))


def _mode(params: dict[str, Any]) -> FreezeMode:
    """Return a trial's freeze mode; where that is no parameter, all of a network trains."""
    mode: FreezeMode = params.get("freeze_mode", "none")
    return mode


def epoch_result(result: dict[str, Any]) -> EpochResult:
    """Return the epoch from a trial's report to Ray."""
    return EpochResult(**{name: result[name] for name in _EPOCH_FIELDS} | {"extra": dict(result["extra"])})
