"""What was measured: the cells of an experiment's grid, the studies beside it, and under which conditions."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from hpo.paper.experiment import Point, Protocol


@dataclass(frozen=True, kw_only=True)
class Cell:
    """One configuration, trained with one seed and judged on the held-out test images."""

    point: Point
    seed: int
    protocol: Protocol
    labels: np.ndarray = field(repr=False)
    """(N,) int64: the class of each test image, in the order of the test split."""
    predicted: np.ndarray = field(repr=False)
    """(N,) int64: what it was taken for."""
    val_accuracy: float
    """At `epoch`, in [0, 1]."""
    epoch: int
    """The epoch whose network was judged, from 1 to the point's epochs."""
    gpu_seconds: float
    """What the point's epochs took on their device; points that differ in epochs alone share a run, and its seconds."""

    @property
    def right(self) -> np.ndarray:
        """(N,) bool: which test images it has right."""
        return np.asarray(self.labels == self.predicted)

    @property
    def accuracy(self) -> float:
        """Share of the test images that it has right, in [0, 1]."""
        return float(self.right.mean())


@dataclass(frozen=True, kw_only=True)
class StudyOutcome:
    """What a study of a backbone found, its best trial chosen on validation, retrained and judged once."""

    backbone: str
    n_trials: int
    right: int
    """Held-out test images that the final model has right."""
    total: int
    """Held-out test images."""
    gpu_seconds: float
    """All epochs of all trials on their devices; the retrain is not counted, as the grid's is not."""
    params: Mapping[str, float | int | str]
    """The best configuration."""


@dataclass(frozen=True, kw_only=True)
class Conditions:
    """Under what the cells were measured, as far as the experiment does not say it."""

    dataset: str
    n_classes: int
    image_size: int | None
    """Side of the square that networks saw, in pixels; None: what the weights' own transform gives."""
    weights: Mapping[str, str]
    """By backbone, which weights it began with."""
    machines: tuple[str, ...]
    """In words, a line each."""
    command: str = ""
    """The command line that measured them."""
