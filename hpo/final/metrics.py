"""What is said of a model on held-out test images: accuracy with its interval, and the classification report."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from sklearn.metrics import balanced_accuracy_score, classification_report

from hpo.final.significance import wilson_interval


@dataclass(frozen=True)
class TestMetrics:
    """A model's score on held-out test images."""

    accuracy: float
    """Share of images classified right."""
    ci95: tuple[float, float]
    """95 % Wilson score interval of the accuracy."""
    mean_per_class_accuracy: float
    """Mean of the classes' recalls, the measure of the transfer-learning literature."""
    images: int
    report: dict[str, Any]
    """scikit-learn's classification report, by class."""
    report_text: str
    """The same, as scikit-learn prints it."""


def measure(labels: np.ndarray, predicted: np.ndarray, classes: tuple[str, ...]) -> TestMetrics:
    """Score (N,) predicted class indices against the true ones."""
    right = int((labels == predicted).sum())
    indices = list(range(len(classes)))
    arguments: dict[str, Any] = {"labels": indices, "target_names": list(classes), "zero_division": 0}
    return TestMetrics(
        accuracy=right / len(labels),
        ci95=wilson_interval(right, len(labels)),
        mean_per_class_accuracy=float(balanced_accuracy_score(labels, predicted)),
        images=len(labels),
        report=classification_report(labels, predicted, output_dict=True, **arguments),
        report_text=classification_report(labels, predicted, digits=3, **arguments),
    )
