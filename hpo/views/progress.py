"""What a person sees while a study runs: a live table on a terminal, plain lines anywhere else."""

import time
from dataclasses import dataclass
from types import TracebackType

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from hpo.ledger.records import Assignment, TrialRecord, best_records, count_states
from hpo.views.summary import duration
from trainables.config import EpochResult

_RETRAIN_LINE_S = 5.0
"""Between two lines about a retrain, where there is no terminal."""


@dataclass
class _Row:
    assignment: Assignment
    last: EpochResult | None = None
    best: EpochResult | None = None


class Screen:
    """Shows studies while they run; writes to stderr, so that stdout holds results only."""

    def __init__(self) -> None:
        self.console = Console(stderr=True, markup=False, emoji=False, highlight=False)
        self._studies: list[Progress] = []
        # Rows change with every epoch, so the screen is drawn when it has to be, and the clock twice per second.
        self._live = Live(console=self.console, get_renderable=self._tables, refresh_per_second=2, transient=True)

    def add(self, study: str, target: int, records: list[TrialRecord]) -> "Progress":
        """Show one more study, of which an earlier run left `records`."""
        shown = Progress(study, target, records, self.console)
        self._studies.append(shown)
        for one in self._studies:
            one.alone = len(self._studies) == 1
        return shown

    def __enter__(self) -> "Screen":
        if self.console.is_terminal:
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.console.is_terminal:
            self._live.stop()

    def _tables(self) -> Group:
        """Those that run; of several, the others in a line each."""
        return Group(*(table for study in self._studies for table in study.tables()))


@dataclass
class Progress:
    """Shows one study's trials as they start, report and end."""

    study: str
    target: int
    records: list[TrialRecord]
    """The trials that an earlier run left, with which counting begins."""
    console: Console
    alone: bool = True
    """Whether no other study is shown, so that lines need not name this one."""

    def __post_init__(self) -> None:
        """Begin counting where the ledger stands."""
        counts = count_states(self.records)
        self._counts = {state: counts[state] for state in ("COMPLETE", "PRUNED", "FAIL")}
        self._best: tuple[int, EpochResult] | None = None
        for record in best_records(self.records, 1):
            if record.best is not None:
                self._best = (record.number, record.best)
        self._running: dict[int, _Row] = {}
        self._ended_here = 0
        self._started_at: float | None = None
        self._retrain: str | None = None
        self._retrain_shown_at = 0.0

    def started(self, assignment: Assignment) -> None:
        """Add a running trial."""
        self._running[assignment.number] = _Row(assignment)
        if self._started_at is None:
            self._started_at = time.monotonic()
        verb = "continues" if assignment.reported else "starts"
        self._line(f"trial {assignment.number} {verb}: {_shown(assignment)}")

    def epoch(self, number: int, result: EpochResult) -> None:
        """Show a running trial's newest epoch."""
        row = self._running[number]
        row.last = result
        if row.best is None or result.val_accuracy > row.best.val_accuracy:
            row.best = result

    def restarted(self, number: int, reason: str) -> None:
        """Say that a trial begins again."""
        self._print(f"trial {number} starts again from epoch 0: {reason}")

    def ended(self, number: int, state: str, error: str | None) -> None:
        """Count an ended trial."""
        row = self._running.pop(number)
        self._counts[state] += 1
        self._ended_here += 1
        leads = self._best is None or (row.best and row.best.val_accuracy > self._best[1].val_accuracy)
        if state == "COMPLETE" and row.best and leads:
            self._best = (number, row.best)
        if error is not None:
            self._print(f"trial {number} {state}: {error}")
        self._line(f"trial {number} {state}{_reached(row)} | {self._summary()}")

    def retrained(self, result: EpochResult, epochs: int) -> None:
        """Show the final model's newest epoch."""
        text = f"retrain at epoch {result.epoch}/{epochs}, training loss {result.train_loss:.4f}"
        self._retrain = text if result.epoch < epochs else None
        if result.epoch == epochs or time.monotonic() - self._retrain_shown_at > _RETRAIN_LINE_S:
            self._retrain_shown_at = time.monotonic()
            self._line(text)

    def _line(self, text: str) -> None:
        if not self.console.is_terminal:
            self._print(text)

    def _print(self, text: str) -> None:
        self.console.print(text if self.alone else f"{self.study}: {text}", soft_wrap=True)

    def _summary(self) -> str:
        done = sum(self._counts.values())
        parts = [f"{done}/{self.target} trials"]
        if self._best:
            parts.append(f"best {self._best[1].val_accuracy:.4f} (trial {self._best[0]})")
        left = self._seconds_left(done)
        if left is not None:
            parts.append(f"about {duration(left)} left")
        return " | ".join(parts)

    def _seconds_left(self, done: int) -> float | None:
        if self._started_at is None or not self._ended_here or done >= self.target:
            return None
        return (time.monotonic() - self._started_at) / self._ended_here * (self.target - done)

    def tables(self) -> list[RenderableType]:
        """Return a heading and, where trials run, a row for each."""
        table = Table(box=None, pad_edge=False)
        for column in ("trial", "learning rate", "batch", "freeze", "epoch", "accuracy"):
            table.add_column(column, justify="left" if column == "freeze" else "right")
        for number, row in sorted(self._running.items()):
            params, last = row.assignment.params, row.last
            table.add_row(
                str(number),
                f"{params['learning_rate']:.2g}",
                str(params["batch_size"]),
                str(params["freeze_mode"]),
                f"{last.epoch if last else row.assignment.reported}/{params['epochs']}",
                f"{last.val_accuracy:.4f}" if last else "-",
            )
        states = ", ".join(f"{count} {state}" for state, count in self._counts.items())
        doing = self._retrain or f"{len(self._running)} RUNNING"
        heading = f"{self.study}: {states}, {doing} | {self._summary()}"
        return [Text(heading, style="bold"), *([table] if self._running else [])]


def _shown(assignment: Assignment) -> str:
    params = assignment.params
    return (
        f"learning rate {params['learning_rate']:.2g}, batch size {params['batch_size']},"
        f" {params['epochs']} epochs, freeze mode {params['freeze_mode']}"
    )


def _reached(row: _Row) -> str:
    if row.last is None:
        return ""
    return f" at epoch {row.last.epoch}/{row.assignment.params['epochs']}, validation {row.last.val_accuracy:.4f}"
