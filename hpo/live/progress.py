"""One study while it runs: what is known of its trials, a line about each event, and how much longer it takes."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field

from rich.console import RenderableType

from hpo.ledger.ledger import Ledger
from hpo.ledger.records import Assignment, best_records, count_states
from hpo.live.drawing import Best, Retrain, Row, View, draw, slot_name
from hpo.live.screen import Screen
from hpo.machines.placement import Slot
from hpo.spec import RunOptions
from hpo.views.summary import left_in_words
from hpo.views.time_left import (
    Plan,
    TimeLeft,
    TrialPace,
    closing,
    pace_of,
    retrain_left,
    retrain_ratio,
    rungs_of,
    time_left,
)
from hpo.views.trainables import in_words
from trainables.config import EpochResult

_LINE_S = 5.0
"""Between two lines about a retrain, where there is no terminal."""
_ESTIMATE_S = 1.0
"""At least between two estimates of the time left."""


@dataclass
class _Running:
    assignment: Assignment
    begun_at: float
    is_first: bool
    last: EpochResult | None = None
    best: EpochResult | None = None
    slot: Slot | None = None
    start_s: float | None = None
    ends: list[float] = field(default_factory=list)
    """When each epoch of this run was reported."""
    own_s: float = 0.0
    """Seconds that these epochs took by themselves."""

    def pace(self, state: str, now: float) -> TrialPace:
        params = self.assignment.params
        epoch_s = own_s = None
        if self.last is not None:
            later = len(self.ends) - 1
            own_s = self.own_s / len(self.ends)
            epoch_s = (self.ends[-1] - self.ends[0]) / later if later else self.last.seconds
        done = self.last.epoch if self.last else self.assignment.reported
        return TrialPace(
            mode=str(params.get("freeze_mode", "none")),
            epochs=max(int(params["epochs"]), done),
            done=done,
            state=state,
            epoch_s=epoch_s,
            own_s=own_s,
            start_s=self.start_s,
            is_first=self.is_first,
            waited_s=now - (self.ends[-1] if self.ends else self.begun_at),
        )


class Progress:
    """Listens to a study's trials; several studies may be shown on one screen."""

    def __init__(
        self,
        screen: Screen,
        ledger: Ledger,
        options: RunOptions,
        *,
        alone: bool,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Begin counting where the ledger stands.

        Args:
            screen: Where lines are printed; the caller adds this study to it.
            ledger: The study's.
            options: How it is run.
            alone: Whether no other study is shown, so that lines need not name this one.
            clock: Seconds that pass.
        """
        records = ledger.records()
        self.study = ledger.name
        self._screen, self._alone, self._clock = screen, alone, clock
        self._target, self._retrains = options.trials, options.retrain
        self._rungs = rungs_of(ledger.spec.search, ledger.space.max_epochs)
        self._reduction_factor = ledger.spec.search.reduction_factor
        splits = ledger.splits
        self._ratio = retrain_ratio(splits.get("train", 0), splits.get("validation", 0))
        counts = count_states(records)
        self._counts = {state: counts[state] for state in ("COMPLETE", "PRUNED", "FAIL")}
        self._paces = {one.number: pace_of(one) for one in records if one.state != "RUNNING"}
        self._history: list[float] = []
        self._best: Best | None = None
        for record in records:
            if record.best is not None and record.state != "RUNNING":
                self._lead(Best(record.number, record.best, record.params, record.state))
        # Of equal ones the ledger's choice leads, whatever the order in which they ended.
        for record in best_records(records, 1):
            if record.best is not None:
                self._best = Best(record.number, record.best, record.params, record.state)
        self._running: dict[int, _Running] = {}
        self._is_active = False
        self._is_fresh = True
        self._slots = 1
        self._shares_cpus = False
        self._begun_at = clock()
        self._changed_at = self._begun_at
        self._retrain: Retrain | None = None
        self._retrain_ends: list[float] = []
        self._retrain_said_at = float("-inf")
        self._estimate: TimeLeft | None = None
        self._estimated_at = float("-inf")

    def started(self, assignment: Assignment) -> None:
        """Add a running trial."""
        self._is_active = True
        self._changed_at = self._clock()
        self._estimated_at = float("-inf")
        # Before any trial has ended, each starts in a process of its own.
        self._running[assignment.number] = _Running(assignment, self._changed_at, self._is_fresh)
        self._slots = len(self._running)
        verb = "continues" if assignment.reported else "starts"
        self._line(f"trial {assignment.number} {verb}: {in_words(assignment.params)}")

    def epoch(self, number: int, result: EpochResult, slot: Slot) -> None:
        """Take up a running trial's newest epoch."""
        row, now = self._running[number], self._clock()
        if not row.ends:
            row.start_s = max(0.0, now - row.begun_at - result.seconds)
        row.ends.append(now)
        row.own_s += result.seconds
        row.last, row.slot = result, slot
        self._shares_cpus = slot.card is None
        if row.best is None or result.val_accuracy > row.best.val_accuracy:
            row.best = result

    def restarted(self, number: int, reason: str) -> None:
        """Say that a trial begins again."""
        self._print(f"trial {number} starts again from epoch 0: {reason}")

    def ended(self, number: int, state: str, error: str | None) -> None:
        """Count an ended trial."""
        row = self._running.pop(number)
        self._changed_at, self._is_fresh = self._clock(), False
        self._paces[number] = row.pace(state, self._changed_at)
        self._counts[state] += 1
        # What was estimated while it ran holds no more.
        self._estimated_at = float("-inf")
        if row.best is not None and state != "FAIL":
            self._lead(Best(number, row.best, row.assignment.params, state))
        if error is not None:
            self._print(f"trial {number} {state}: {error}")
        self._line(f"trial {number} {state}{_reached(row)} | {self._summary()}")

    def retrained(self, result: EpochResult, epochs: int) -> None:
        """Show the final model's newest epoch."""
        now = self._clock()
        assert result.train_loss is not None
        if not self._retrain_ends:
            self._retrain_ends.append(now - result.seconds)
        self._retrain_ends.append(now)
        self._retrain = Retrain(result.epoch, epochs, result.train_loss)
        if result.epoch == epochs or now - self._retrain_said_at > _LINE_S:
            self._retrain_said_at = now
            self._line(f"retrain at epoch {result.epoch}/{epochs}, training loss {result.train_loss:.4f}")

    def draw(self, width: int, height: int, *, ascii_only: bool) -> list[RenderableType]:
        """Return what a terminal shows of the study now."""
        return draw(self._view(), width, height, ascii_only=ascii_only)

    def time_left(self) -> TimeLeft | None:
        """Return how much longer the study takes; None: not known, or it has ended."""
        now = self._clock()
        if now - self._estimated_at > _ESTIMATE_S:
            self._estimated_at, self._estimate = now, self._estimated(now)
        return self._estimate

    def _estimated(self, now: float) -> TimeLeft | None:
        if self._retrain is not None:
            left = self._retrain.epochs - self._retrain.epoch
            return retrain_left(self._retrain_ends, left, now, closing(list(self._paces.values())))
        running = dict(self._running)
        to_come = max(0, self._target - sum(self._counts.values()) - len(running))
        # Another study runs before this one, or all is done; else its next trial, or its retrain, is being started.
        if not self._is_active or not (running or to_come or (self._retrains and self._best)):
            return None
        paces = self._paces | {number: row.pace("RUNNING", now) for number, row in running.items()}
        best = paces.get(self._best.number) if self._best else None
        plan = Plan(
            to_come=to_come,
            slots=self._slots,
            rungs=self._rungs,
            reduction_factor=self._reduction_factor,
            retrained=best if self._retrains else None,
            retrain_ratio=self._ratio,
            shares_cpus=self._shares_cpus,
            idle_s=0.0 if running else now - self._changed_at,
        )
        return time_left([paces[number] for number in sorted(paces)], plan)

    def _lead(self, one: Best) -> None:
        """Take up a trial's best epoch, as the ledger would choose: a PRUNED trial leads where none is COMPLETE."""
        candidates = [one] if self._best is None else [self._best, one]
        self._best = max(candidates, key=lambda best: (best.state == "COMPLETE", best.result.val_accuracy))
        self._history.append(self._best.result.val_accuracy)

    def _leading(self) -> Best | None:
        """The best so far; before any trial has ended, that of one that runs."""
        if self._best is not None:
            return self._best
        scored = [(row.best.val_accuracy, -number) for number, row in list(self._running.items()) if row.best]
        if not scored:
            return None
        number = -max(scored)[1]
        row = self._running.get(number)
        return None if row is None or row.best is None else Best(number, row.best, row.assignment.params, "RUNNING")

    def _view(self) -> View:
        rows = [
            Row(
                number,
                row.assignment.params,
                row.last.epoch if row.last else row.assignment.reported,
                row.last,
                slot_name(row.slot) if row.slot else None,
            )
            for number, row in sorted(dict(self._running).items())
        ]
        return View(
            study=self.study,
            counts=dict(self._counts),
            target=self._target,
            rows=rows,
            best=self._leading(),
            history=list(self._history),
            retrain=self._retrain,
            seconds=self._clock() - self._begun_at,
            left=self.time_left(),
            is_active=self._is_active or self._retrain is not None,
        )

    def _line(self, text: str) -> None:
        if not self._screen.is_live:
            self._print(text)

    def _print(self, text: str) -> None:
        self._screen.print(text if self._alone else f"{self.study}: {text}")

    def _summary(self) -> str:
        parts = [f"{sum(self._counts.values())}/{self._target} trials"]
        best = self._leading()
        if best is not None:
            parts.append(f"best {best.result.val_accuracy:.4f} (trial {best.number})")
        left = self.time_left()
        if left is not None:
            parts.append(left_in_words(left))
        return " | ".join(parts)


def _reached(row: _Running) -> str:
    if row.last is None:
        return ""
    return f" at epoch {row.last.epoch}/{row.assignment.params['epochs']}, validation {row.last.val_accuracy:.4f}"
