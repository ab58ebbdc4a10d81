"""Trials and epochs as rows, the same in every file and table, and rows as CSV."""

import csv
import io
from collections.abc import Sequence
from dataclasses import fields
from typing import Any

from hpo.ledger.records import TrialRecord
from trainables.config import EpochResult

_EPOCH = tuple(field.name for field in fields(EpochResult) if field.name != "val_predictions")

Row = dict[str, Any]


def trial_row(record: TrialRecord) -> Row:
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


def epoch_rows(record: TrialRecord) -> list[Row]:
    """Return every figure of each of a trial's epochs, and where it ran."""
    return [
        {name: getattr(result, name) for name in _EPOCH}
        | dict(zip(("host", "device"), place or (record.host, record.device), strict=True))
        for result, place in zip(record.curve, record.places, strict=True)
    ]


def as_csv(rows: Sequence[Row]) -> str:
    """Return rows as CSV, unrounded; what one of them lacks, or is None, is empty."""
    stream = io.StringIO()
    names = dict.fromkeys(name for row in rows for name in row)
    writer = csv.DictWriter(stream, names, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return stream.getvalue()
