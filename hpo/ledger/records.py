"""Trials as data: what the ledger says of one, and which of many are the best."""

import math
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

from optuna.trial import FrozenTrial

from trainables.config import EpochResult

State = Literal["COMPLETE", "PRUNED", "FAIL", "RUNNING"]
"""Optuna's states; WAITING trials are not ours yet."""

STATES: tuple[State, ...] = ("COMPLETE", "PRUNED", "FAIL", "RUNNING")

Ending = Literal["COMPLETE", "PRUNED", "FAIL"]
"""The states in which a trial can end."""


@dataclass(frozen=True)
class Assignment:
    """A trial that is to be started or continued."""

    number: int
    params: dict[str, Any]
    reported: int
    """Epochs that the ledger has already."""
    host: str | None = None
    """Address of the machine that reported them."""


class Place(NamedTuple):
    """Where an epoch ran."""

    host: str
    """The machine's address."""
    device: str


@dataclass(frozen=True)
class TrialRecord:
    """One trial as the ledger has it."""

    number: int
    state: State
    params: dict[str, Any]
    curve: tuple[EpochResult, ...]
    """The epochs that were reported, in order."""
    host: str | None
    """Where the last epoch ran, and `device`; None before the first."""
    device: str | None
    error: str | None
    """Why a FAIL trial failed, or a PRUNED one diverged."""
    seconds: float | None
    """Wall time from its start to its end, interruptions included; None while it runs."""
    memory_gb: dict[str, float] | None = None
    """GPU memory, in GiB: what was `estimated` and the most that was `measured`; None where no GPU measured it."""
    val_predictions: str | None = None
    """The class of each validation image at the best epoch (`trainables.predictions`); None: hpo 0.1.0 kept none."""
    places: tuple[Place | None, ...] = ()
    """Where each epoch of `curve` ran; None for epochs of hpo 0.1, which kept the last place alone."""
    started_at: float | None = None
    """When it was created, and `ended_at`, when it left RUNNING, in s since 1970 by the driver's clock."""
    ended_at: float | None = None
    reported_at: tuple[float | None, ...] = ()
    """When each epoch of `curve` reached the ledger, by the same clock; None for epochs of hpo 0.2.0 and earlier."""

    @property
    def hosts(self) -> tuple[str, ...]:
        """The machines that took part, in the order in which they did first."""
        known = tuple(dict.fromkeys(place.host for place in self.places if place is not None))
        return known or ((self.host,) if self.host is not None else ())

    @property
    def best(self) -> EpochResult | None:
        """The first epoch of the highest validation accuracy; None before the first epoch."""
        return max(self.curve, key=lambda result: result.val_accuracy, default=None)

    @property
    def seconds_trained(self) -> float:
        """What its epochs took, in s; waits and interruptions do not count."""
        return sum(result.seconds for result in self.curve)


def accuracy(record: TrialRecord) -> float:
    """Return the validation accuracy of a trial's best epoch; it must have one."""
    assert record.best is not None
    return record.best.val_accuracy


def count_states(records: list[TrialRecord]) -> dict[State, int]:
    """Return how many trials are in each state, zeros included."""
    counts = dict.fromkeys(STATES, 0)
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


def as_row(result: EpochResult, place: Place, reported_at: float) -> dict[str, Any]:
    """Return an epoch ready for JSON, which has no NaN or infinity: they are kept as text.

    The predictions are no part of it: the ledger keeps those of the best epoch alone.
    """
    figures = {key: value for key, value in vars(result).items() if key not in ("val_predictions", "extra")}
    numbers = {
        key: value if math.isfinite(value) else str(value) for key, value in figures.items() if value is not None
    }
    # A text stays one here, so that what is no finite number is left without its value.
    extra = {
        key: value if isinstance(value, str) or math.isfinite(value) else None for key, value in result.extra.items()
    }
    return {**numbers, **({"extra": extra} if extra else {}), **place._asdict(), "reported_at": round(reported_at, 3)}


def from_row(row: dict[str, Any]) -> EpochResult:
    """Return the epoch of a row of `as_row`."""
    values = ((key, row[key]) for key in EpochResult.__dataclass_fields__ if key in row and key != "extra")
    numbers: dict[str, Any] = {key: float(value) if isinstance(value, str) else value for key, value in values}
    extra = {key: math.nan if value is None else value for key, value in row.get("extra", {}).items()}
    return EpochResult(**numbers, extra=extra)


def rows_of(trial: FrozenTrial) -> list[dict[str, Any]]:
    """Return a trial's epochs whose value Optuna has; a row that a kill left without its value does not count."""
    return [row for row in trial.user_attrs.get("curve", []) if row["epoch"] in trial.intermediate_values]


def as_record(trial: FrozenTrial) -> TrialRecord:
    """Return what a started trial of Optuna's says."""
    rows, attrs = rows_of(trial), trial.user_attrs
    state: State = trial.state.name  # type: ignore[assignment] # the ledger leaves WAITING ones out
    return TrialRecord(
        trial.number,
        state,
        dict(trial.params),
        tuple(map(from_row, rows)),
        attrs.get("host"),
        attrs.get("device"),
        attrs.get("error"),
        trial.duration.total_seconds() if trial.duration is not None else None,
        attrs.get("memory_gb"),
        attrs.get("val_predictions"),
        tuple(Place(row["host"], row["device"]) if "host" in row else None for row in rows),
        trial.datetime_start.timestamp() if trial.datetime_start is not None else None,
        trial.datetime_complete.timestamp() if trial.datetime_complete is not None else None,
        tuple(row.get("reported_at") for row in rows),
    )
