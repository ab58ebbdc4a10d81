"""Trials as data: what the ledger says of one, and which of many are the best."""

import math
from dataclasses import dataclass
from typing import Any, Literal

from trainables.config import EpochResult

State = Literal["COMPLETE", "PRUNED", "FAIL", "RUNNING"]
"""Optuna's states; WAITING trials are not ours yet."""

Ending = Literal["COMPLETE", "PRUNED", "FAIL"]
"""The states in which a trial can end."""


@dataclass(frozen=True)
class Assignment:
    """A trial that is to be run, or run on."""

    number: int
    params: dict[str, Any]
    reported: int
    """Epochs that the ledger has already."""
    host: str | None = None
    """Address of the machine that reported them."""


@dataclass(frozen=True)
class TrialRecord:
    """One trial as the ledger has it."""

    number: int
    state: State
    params: dict[str, Any]
    curve: tuple[EpochResult, ...]
    """The epochs that were reported, in order."""
    host: str | None
    device: str | None
    error: str | None
    """Why a FAIL trial failed, or a PRUNED one diverged."""
    seconds: float | None
    """Wall time from its start to its end, interruptions included; None while it runs."""
    memory_gb: dict[str, float] | None = None
    """GPU memory, in GiB: what was `estimated` and the most that was `measured`; None where no GPU measured it."""

    @property
    def best(self) -> EpochResult | None:
        """The first epoch of the highest validation accuracy; None before the first epoch."""
        return max(self.curve, key=lambda result: result.val_accuracy, default=None)


def count_states(records: list[TrialRecord]) -> dict[State, int]:
    """Return how many trials are in each state, zeros included."""
    counts: dict[State, int] = {"COMPLETE": 0, "PRUNED": 0, "FAIL": 0, "RUNNING": 0}
    for record in records:
        counts[record.state] += 1
    return counts


def best_records(records: list[TrialRecord], top: int) -> list[TrialRecord]:
    """Return the `top` trials of the highest best-epoch validation accuracy, best first, the earlier one where equal.

    Only COMPLETE trials count, as in Optuna; PRUNED ones do where none is complete.
    """
    complete = [record for record in records if record.state == "COMPLETE"]
    candidates = complete or [record for record in records if record.state == "PRUNED"]
    scored = [(record.best.val_accuracy, record) for record in candidates if record.best is not None]
    return [record for _, record in sorted(scored, key=lambda pair: (-pair[0], pair[1].number))[:top]]


def as_row(result: EpochResult) -> dict[str, Any]:
    """Return an epoch ready for JSON, which has no NaN or infinity: they are kept as text."""
    return {key: value if math.isfinite(value) else str(value) for key, value in vars(result).items()}


def from_row(row: dict[str, Any]) -> EpochResult:
    """Return the epoch that `as_row` was given."""
    values: dict[str, Any] = {key: float(value) if isinstance(value, str) else value for key, value in row.items()}
    return EpochResult(**values)
