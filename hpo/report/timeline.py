"""Where a study's time went: which trial trained where and when, and how much of the machines' time was idle."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from hpo.ledger.records import State, TrialRecord

_PAUSE_S = 60.0
"""A trial that reports nothing for longer than this beyond its epoch has paused."""
_STOP_S = 300.0
"""Where no trial at all trains for longer than this, the study was stopped, and its machines were not idle."""
_CLOCK_S = 1.0
"""Two epochs on one place may overlap by so much: an epoch's end is when the ledger had it."""


@dataclass(frozen=True)
class Stretch:
    """A trial's time on one place, without a pause."""

    trial: int
    state: State
    host: str
    device: str
    start: float
    """In s since 1970, and `end`."""
    end: float
    trained: float
    """What its epochs took, in s."""
    epochs: int


@dataclass(frozen=True)
class Lane:
    """One place of a device, where trials ran one after the other."""

    host: str
    device: str
    stretches: tuple[Stretch, ...]

    @property
    def trained(self) -> float:
        """What its epochs took, in s."""
        return sum(one.trained for one in self.stretches)


def stretches(records: Iterable[TrialRecord]) -> list[Stretch]:
    """Return when which trial ran where, the earliest first.

    Of a trial whose epochs have no times, as of hpo 0.2.0 and earlier, that is one stretch from its start to its end.
    """
    found = [stretch for record in records if record.curve for stretch in _of_trial(record)]
    return sorted(found, key=lambda one: (one.start, one.trial))


def has_epoch_times(records: Iterable[TrialRecord]) -> bool:
    """Return whether it is known of every epoch when it ended."""
    return all(time is not None for record in records for time in record.reported_at)


def lanes(found: Sequence[Stretch]) -> list[Lane]:
    """Return the stretches by host and device, as many lanes each as trials ran there at a time."""
    places: dict[tuple[str, str], list[list[Stretch]]] = {}
    for stretch in found:
        rows = places.setdefault((stretch.host, stretch.device), [])
        free = next((row for row in rows if row[-1].end <= stretch.start + _CLOCK_S), None)
        if free is None:
            rows.append([stretch])
        else:
            free.append(stretch)
    return [Lane(host, device, tuple(row)) for (host, device), rows in sorted(places.items()) for row in rows]


def active_seconds(found: Sequence[Stretch]) -> float:
    """Return how long a study ran, in s, from its first epoch to its last, without the times when it was stopped."""
    total, reached = 0.0, None
    for stretch in sorted(found, key=lambda one: one.start):
        if reached is None or stretch.start - reached > _STOP_S:
            total += stretch.end - stretch.start
        else:
            total += max(0.0, stretch.end - reached)
        reached = stretch.end if reached is None else max(reached, stretch.end)
    return total


def machine_rows(rows: Sequence[Lane], active: float) -> list[dict[str, Any]]:
    """Return one row per host and device: trials at a time, trials, epochs, seconds trained, and its idle share."""
    found: dict[tuple[str, str], list[Lane]] = {}
    for lane in rows:
        found.setdefault((lane.host, lane.device), []).append(lane)
    table = []
    for (host, device), own in found.items():
        trained = sum(lane.trained for lane in own)
        table.append(
            {
                "host": host,
                "device": device,
                "trials_at_a_time": len(own),
                "trials": len({one.trial for lane in own for one in lane.stretches}),
                "epochs": sum(one.epochs for lane in own for one in lane.stretches),
                "trained_seconds": trained,
                "idle_share": max(0.0, 1 - trained / (active * len(own))) if active > 0 else None,
            }
        )
    return table


def _of_trial(record: TrialRecord) -> list[Stretch]:
    host, device = record.host or "unknown", record.device or "unknown"
    times = [time for time in record.reported_at if time is not None]
    if len(times) < len(record.curve):
        trained = record.seconds_trained
        start = record.started_at or 0.0
        end = record.ended_at or start + trained
        return [Stretch(record.number, record.state, host, device, start, end, trained, len(record.curve))]
    found: list[Stretch] = []
    for result, place, time in zip(record.curve, record.places, times, strict=True):
        where = place or (host, device)
        start = time - result.seconds
        last = found[-1] if found else None
        if last is not None and (last.host, last.device) == tuple(where) and start - last.end <= _PAUSE_S:
            found[-1] = replace(last, end=time, trained=last.trained + result.seconds, epochs=last.epochs + 1)
        else:
            found.append(Stretch(record.number, record.state, *where, start, time, result.seconds, 1))
    return found
