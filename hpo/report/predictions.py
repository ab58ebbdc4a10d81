"""What a model took images for: the confusion matrix, each class, and the pairs of classes that it confuses most."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd

from hpo.final.significance import wilson_interval
from hpo.ledger.records import TrialRecord
from hpo.views.confusion import Confusions
from trainables.predictions import unpack

PAIRS = 6
"""Confused pairs of classes that are shown."""
EXAMPLES = 4
"""Images that are shown of each."""


@dataclass(frozen=True)
class Predictions:
    """The classes that a model gave to images."""

    confusions: Confusions

    of: str
    """Which images, and which model, in words."""
    split: Literal["test", "validation"]
    names: tuple[str, ...]
    """Of the images; empty where they are not known."""


@dataclass(frozen=True)
class Confusion:
    """Images of one class that a model took for another."""

    true: str
    predicted: str
    count: int
    share: float
    """Of the true class's images."""
    examples: tuple[str, ...]
    """Names of up to `EXAMPLES` of them; none where all pairs were asked for."""


def final_predictions(path: Path, classes: tuple[str, ...]) -> Predictions | None:
    """Return what a study's final model took the held-out test images for; None where the file is gone or torn."""
    try:
        table = pd.read_csv(path, dtype=str, keep_default_na=False)
    except (OSError, ValueError):
        return None
    # Names that are not UTF-8 are written with replacements.
    index = {name.encode("utf-8", "replace").decode(): number for number, name in enumerate(classes)}
    if not {"image", "true", "predicted"} <= {*table.columns} or not {*table["true"], *table["predicted"]} <= {*index}:
        return None
    if len(index) < len(classes):
        return None
    true, predicted = (table[column].map(index).to_numpy(np.int64) for column in ("true", "predicted"))
    found = Confusions(true, predicted, classes)
    return Predictions(found, "held-out test images, by the final model", "test", tuple(table["image"]))


def validation_predictions(
    record: TrialRecord, labels: str, classes: tuple[str, ...], listing: Path
) -> Predictions | None:
    """Return what a trial took the validation images for at its best epoch; None where the ledger kept none.

    Args:
        record: The trial.
        labels: The images' classes, packed.
        classes: Their names.
        listing: The study's ``splits.csv``, for the images' names.
    """
    if record.val_predictions is None or not labels:
        return None
    true, predicted = unpack(labels), unpack(record.val_predictions)
    try:
        table = pd.read_csv(listing, dtype=str, keep_default_na=False)
        names = tuple(table["image"][table["split"] == "validation"])
    except (OSError, ValueError, KeyError):
        names = ()
    known = names if len(names) == len(true) else ()
    of = f"validation images, by trial {record.number} at its best epoch"
    return Predictions(Confusions(true, predicted, classes), of, "validation", known)


def per_class(found: Confusions) -> list[dict[str, Any]]:
    """Return one row per class: images, recall with its 95 % interval, precision, F1; None where undefined."""
    count = len(found.classes)
    right = np.bincount(found.true[found.true == found.predicted], minlength=count).tolist()
    said = np.bincount(found.predicted, minlength=count).tolist()
    rows = []
    for number, (name, images) in enumerate(zip(found.classes, found.images.tolist(), strict=True)):
        low, high = wilson_interval(right[number], images) if images else (None, None)
        rows.append(
            {
                "number": number,
                "class": name,
                "images": images,
                "recall": right[number] / images if images else None,
                "recall_low": low,
                "recall_high": high,
                "precision": right[number] / said[number] if said[number] else None,
                "f1": 2 * right[number] / (images + said[number]) if images + said[number] else None,
            }
        )
    return rows


def confused_pairs(predictions: Predictions, most: int | None = None) -> list[Confusion]:
    """Return the pairs of classes that are confused, the worst first (`Confusions.worst`): all, or up to `most`."""
    found = predictions.confusions
    pairs, counts = (one[:most] for one in found.worst)
    return [
        Confusion(
            found.classes[true],
            found.classes[predicted],
            count,
            count / int(found.images[true]),
            _examples(predictions, true, predicted) if most is not None else (),
        )
        for (true, predicted), count in zip(pairs.tolist(), counts.tolist(), strict=True)
    ]


def _examples(predictions: Predictions, true: int, predicted: int) -> tuple[str, ...]:
    if not predictions.names:
        return ()
    is_one = (predictions.confusions.true == true) & (predictions.confusions.predicted == predicted)
    return tuple(predictions.names[index] for index in np.flatnonzero(is_one)[:EXAMPLES])
