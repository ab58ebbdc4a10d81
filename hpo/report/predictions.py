"""What a model took images for: the confusion matrix, each class, and the pairs of classes that it confuses most."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd

from hpo.final.significance import wilson_interval
from hpo.ledger.records import TrialRecord
from trainables.predictions import unpack

PAIRS = 6
"""Confused pairs of classes that are shown."""
EXAMPLES = 4
"""Images that are shown of each."""


@dataclass(frozen=True)
class Predictions:
    """The classes that a model gave to images."""

    of: str
    """Which images, and which model, in words."""
    split: Literal["test", "validation"]
    classes: tuple[str, ...]
    names: tuple[str, ...]
    """Of the images; empty where they are not known."""
    true: np.ndarray
    """(N,) int64 indices into `classes`."""
    predicted: np.ndarray
    """(N,) int64."""

    @property
    def confusion(self) -> np.ndarray:
        """(C, C) int64, true classes by row."""
        counts = np.zeros((len(self.classes), len(self.classes)), np.int64)
        np.add.at(counts, (self.true, self.predicted), 1)
        return counts


@dataclass(frozen=True)
class Confusion:
    """Images of one class that a model took for another."""

    true: str
    predicted: str
    count: int
    share: float
    """Of the true class's images."""
    examples: tuple[str, ...]
    """Names of up to `EXAMPLES` of them."""


def final_predictions(path: Path, classes: tuple[str, ...]) -> Predictions | None:
    """Return what a study's final model took the held-out test images for; None where the file is gone or torn."""
    try:
        table = pd.read_csv(path, dtype=str, keep_default_na=False)
    except (OSError, ValueError):
        return None
    index = {name: number for number, name in enumerate(classes)}
    if not {"image", "true", "predicted"} <= {*table.columns} or not {*table["true"], *table["predicted"]} <= {*index}:
        return None
    true, predicted = (table[column].map(index).to_numpy(np.int64) for column in ("true", "predicted"))
    return Predictions(
        "held-out test images, by the final model", "test", classes, tuple(table["image"]), true, predicted
    )


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
    return Predictions(
        f"validation images, by trial {record.number} at its best epoch", "validation", classes, known, true, predicted
    )


def per_class(predictions: Predictions) -> list[dict[str, Any]]:
    """Return one row per class: images, recall with its 95 % interval, precision, F1; None where undefined."""
    confusion = predictions.confusion
    rows = []
    for number, name in enumerate(predictions.classes):
        right, images, said = (
            int(confusion[number, number]),
            int(confusion[number].sum()),
            int(confusion[:, number].sum()),
        )
        low, high = wilson_interval(right, images) if images else (None, None)
        rows.append(
            {
                "class": name,
                "images": images,
                "recall": right / images if images else None,
                "recall_low": low,
                "recall_high": high,
                "precision": right / said if said else None,
                "f1": 2 * right / (images + said) if images + said else None,
            }
        )
    return rows


def worst_confusions(predictions: Predictions, most: int = PAIRS) -> list[Confusion]:
    """Return the pairs that are confused most often, the most frequent first, by the larger share where equal."""
    confusion = predictions.confusion
    images = np.maximum(confusion.sum(axis=1), 1)
    np.fill_diagonal(confusion, 0)
    pairs = [(int(row), int(column)) for row, column in zip(*np.nonzero(confusion), strict=True)]
    pairs.sort(key=lambda pair: (-confusion[pair], -confusion[pair] / images[pair[0]], pair))
    return [
        Confusion(
            predictions.classes[row],
            predictions.classes[column],
            int(confusion[row, column]),
            float(confusion[row, column] / images[row]),
            _examples(predictions, row, column),
        )
        for row, column in pairs[:most]
    ]


def _examples(predictions: Predictions, true: int, predicted: int) -> tuple[str, ...]:
    if not predictions.names:
        return ()
    found = np.flatnonzero((predictions.true == true) & (predictions.predicted == predicted))
    return tuple(predictions.names[index] for index in found[:EXAMPLES])
