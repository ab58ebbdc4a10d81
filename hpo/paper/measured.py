"""What was measured: the cells of an experiment's grid, the studies beside it, and under which conditions."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from hpo.paper.experiment import SOUND, Point, Protocol

Measured = Mapping[Point, Sequence["Cell"]]
"""The cells of one protocol: of each configuration one per seed, by rising seed."""


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
    diverged: bool = False
    """Whether the loss was no number before the point's epochs were over, and training ended there."""

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


def by_protocol(cells: Sequence[Cell]) -> dict[Protocol, Measured]:
    """Return the cells of each protocol; that of the most configurations first, of equally many the sound one."""
    found: dict[Protocol, dict[Point, list[Cell]]] = {}
    for cell in sorted(cells, key=lambda one: one.seed):
        found.setdefault(cell.protocol, {}).setdefault(cell.point, []).append(cell)
    return dict(sorted(found.items(), key=lambda one: (-len(one[1]), len(SOUND.differs_in(one[0])))))


def right(cells: Sequence[Cell]) -> np.ndarray:
    """Return which test images each seed has right, as (S, N) bool.

    Raises:
        ValueError: The cells are of different test images, or there is none.
    """
    if len({cell.labels.tobytes() for cell in cells}) != 1:
        raise ValueError("cells of different test images, or none")
    return np.stack([cell.right for cell in cells])


@dataclass(frozen=True)
class Best:
    """The configuration of a backbone's grid that was best on validation, and what the whole grid took."""

    point: Point
    cells: Sequence[Cell]
    gpu_seconds: float
    """All runs of the grid, of one seed: the mean over seeds."""
    n_points: int
    """Configurations of the grid that were measured."""


def best_of_grid(measured: Measured, backbone: str) -> Best | None:
    """Return the best configuration of a backbone by mean validation accuracy; None: none was measured."""
    grid = {point: cells for point, cells in measured.items() if point.backbone == backbone}
    if not grid:
        return None
    point = max(grid, key=lambda one: (np.mean([cell.val_accuracy for cell in grid[one]]), -one.epochs))
    seconds: dict[tuple[Point, int], float] = {}
    for cell in (cell for cells in grid.values() for cell in cells):
        run = (replace(cell.point, epochs=0), cell.seed)
        seconds[run] = max(seconds.get(run, 0.0), cell.gpu_seconds)
    seeds = Counter(run for run, _ in seconds)
    total = sum(value / seeds[run] for (run, _), value in seconds.items())
    return Best(point, grid[point], total, len(grid))
