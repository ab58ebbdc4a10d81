"""Trials and their epochs as pandas tables, for CSV files and for people who compute with them."""

from collections.abc import Iterable, Sequence
from dataclasses import fields
from typing import Any

import pandas as pd

from hpo.ledger.records import TrialRecord
from trainables.config import EpochResult

_FIGURES = [field.name for field in fields(EpochResult) if field.name not in ("epoch", "val_predictions", "extra")]


def trials_frame(records: Sequence[TrialRecord]) -> pd.DataFrame:
    """Return a row for each trial, by number, with a column for each parameter."""
    return pd.DataFrame([trial_row(record) for record in records])


def curves_frame(records: Sequence[TrialRecord]) -> pd.DataFrame:
    """Return a row for each epoch of each trial: every figure, also its trainable's own, and where it ran."""
    others = other_figures(records)
    rows = [
        (
            record.number,
            result.epoch,
            *(getattr(result, name) for name in _FIGURES),
            *(result.extra.get(name) for name in others),
            *(place or (record.host, record.device)),
        )
        for record in records
        for result, place in zip(record.curve, record.places, strict=True)
    ]
    return pd.DataFrame(rows, columns=["trial", "epoch", *_FIGURES, *others, "host", "device"])


def other_figures(records: Iterable[TrialRecord]) -> list[str]:
    """Return the names of what a trainable measured beside an `EpochResult`'s own figures, as far as it is numbers."""
    found = {
        name: None
        for record in records
        for result in record.curve
        for name, value in result.extra.items()
        if not isinstance(value, str)
    }
    return list(found)


def trial_row(record: TrialRecord) -> dict[str, Any]:
    """Return what is known of a trial; None where it is not."""
    best, last = record.best, record.curve[-1] if record.curve else None
    return {
        "number": record.number,
        "state": record.state,
        **record.params,
        "epochs_trained": len(record.curve),
        "best_epoch": best.epoch if best else None,
        "best_val_accuracy": best.val_accuracy if best else None,
        "last_val_accuracy": last.val_accuracy if last else None,
        "seconds": record.seconds,
        "seconds_trained": record.seconds_trained,
        "host": " ".join(record.hosts) or None,
        "device": record.device,
        "memory_gb": record.memory_gb and record.memory_gb["measured"],
        "error": record.error,
    }
