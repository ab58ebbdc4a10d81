"""A study in a few figures: the line of a list, and the object that ``--json`` prints."""

import statistics
from dataclasses import dataclass
from typing import Any

from hpo.ledger.ledger import Ledger
from hpo.ledger.records import State, TrialRecord, best_records, count_states


@dataclass(frozen=True)
class StudySummary:
    """What a list of studies shows of each."""

    name: str
    backbone: str
    dataset: str
    states: dict[State, int]
    target: int
    best_value: float | None
    test_accuracy: float | None
    seconds_left: float | None
    """What is expected at the pace so far; None where no trial runs, or none has ended."""


def summary(ledger: Ledger) -> StudySummary:
    """Return what a list of studies shows of one."""
    states = ledger.count_states()
    # Reading the trials of many studies takes long.
    records = ledger.records() if states["RUNNING"] or not states["COMPLETE"] else []
    leading = best_records(records, 1)
    best = leading[0].best.val_accuracy if leading and leading[0].best else None
    final, target = ledger.final, ledger.run_options.trials
    return StudySummary(
        name=ledger.name,
        backbone=ledger.spec.model.backbone,
        dataset=ledger.spec.data.dataset,
        states=states,
        target=target,
        best_value=ledger.best_value if states["COMPLETE"] else best,
        test_accuracy=final["test_accuracy"] if final else None,
        seconds_left=seconds_left(records, target),
    )


def seconds_left(records: list[TrialRecord], target: int) -> float | None:
    """Return how long a study takes to have `target` ended trials, if they train on as those that ended did, in s.

    As many are taken to run at a time as do now. None where no trial runs, or none has ended.
    """
    running = count_states(records)["RUNNING"]
    ended = [record.seconds_trained for record in records if record.state != "RUNNING"]
    if not running or not ended:
        return None
    return statistics.fmean(ended) * max(target - len(ended), 0) / running


def summarise(ledger: Ledger, seconds: float) -> dict[str, Any]:
    """Return the object that ``--json`` prints."""
    records = ledger.records()
    best, final = best_records(records, 1), ledger.final
    counts = {state.lower(): count for state, count in count_states(records).items()}
    leading = None
    if best and best[0].best:
        leading = {
            "number": best[0].number,
            "val_accuracy": best[0].best.val_accuracy,
            "best_epoch": best[0].best.epoch,
            "params": best[0].params,
        }
    return {
        "study": ledger.name,
        "backbone": ledger.spec.model.backbone,
        "dataset": ledger.spec.data.dataset,
        "trials": counts,
        "best": leading,
        "final": final,
        "seconds": round(seconds, 3),
    }


def duration(seconds: float) -> str:
    """Return a time for people: ``45 s``, ``12 min``, ``3.5 h``."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
