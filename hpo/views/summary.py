"""A study in a few figures: the line of a list, and the object that ``--json`` prints."""

from dataclasses import dataclass
from typing import Any

from hpo.ledger.ledger import Ledger
from hpo.ledger.records import State, TrialRecord, best_records, count_states
from hpo.views.time_left import Plan, TimeLeft, best_pace, pace_of, retrain_ratio, rungs_of, time_left
from hpo.views.trainables import use
from trainables.trainable import has_final_model


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
    time_left: TimeLeft | None
    """What is expected at the pace so far; None where no trial runs, or none has an epoch."""


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
        time_left=_time_left(ledger, records),
    )


def _time_left(ledger: Ledger, records: list[TrialRecord]) -> TimeLeft | None:
    """Return how long a study takes that runs, as far as the ledger knows; as many trials run at a time as do now."""
    running = count_states(records)["RUNNING"]
    if not running:
        return None
    search, options, splits = ledger.spec.search, ledger.run_options, ledger.splits
    plan = Plan(
        to_come=max(options.trials - len(records), 0),
        slots=running,
        rungs=rungs_of(search, ledger.space.max_epochs),
        reduction_factor=search.reduction_factor,
        retrained=best_pace(records) if options.retrain else None,
        retrain_ratio=retrain_ratio(splits.get("train", 0), splits.get("validation", 0)),
        shares_cpus=any(str(record.device).startswith("cpu ") for record in records),
    )
    return time_left([pace_of(record) for record in records], plan)


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
        "trainable": ledger.spec.trainable,
        "trials": counts,
        "best": leading,
        "final": final,
        "use": None if has_final_model(ledger.spec.trainable) else use(ledger, best[0] if best else None),
        "seconds": round(seconds, 3),
    }


def duration(seconds: float) -> str:
    """Return a time for people: ``45 s``, ``12 min``, ``3.5 h``."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def left_in_words(left: TimeLeft) -> str:
    """Return a time left for people: ``about 4 min left (3 to 6 min)``."""
    low, high = duration(left.low), duration(left.high)
    # The unit is said once where it is one.
    if low.rpartition(" ")[2] == high.rpartition(" ")[2]:
        low = low.rpartition(" ")[0]
    return f"about {duration(left.seconds)} left ({low} to {high})"
