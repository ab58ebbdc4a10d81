"""Cells of an experiment for tests: predictions with given accuracies, from a seeded generator."""

from collections.abc import Callable, Iterable, Sequence

import numpy as np

from hpo.paper.experiment import SOUND, Experiment, Point, Protocol
from hpo.paper.measured import Cell

N_CLASSES = 37


def cells(
    points: Iterable[Point],
    accuracy: Callable[[Point, Protocol], float],
    *,
    images: int = 1_000,
    seeds: Sequence[int] = (0,),
    protocol: Protocol = SOUND,
    spread: float = 0.0,
) -> list[Cell]:
    """Cells whose test accuracy is about that of `accuracy`, on images of which some are hard for all.

    Args:
        points: The configurations.
        accuracy: The expected accuracy of each.
        images: Test images.
        seeds: Of the trainings.
        protocol: Of all cells.
        spread: Standard deviation of the accuracy over the seeds.
    """
    generator = np.random.default_rng(17)
    labels = generator.integers(0, N_CLASSES, images)
    hardness = generator.random(images)
    found = []
    for number, point in enumerate(points):
        for seed in seeds:
            own = np.random.default_rng([seed, number])
            share = float(np.clip(accuracy(point, protocol) + spread * own.standard_normal(), 0, 1))
            # An image's chance to be wrong rises with its hardness; the mean of the chances is 1 - share.
            order = hardness + 0.15 * own.standard_normal(images)
            wrong = np.zeros(images, bool)
            wrong[np.argsort(-order)[: round((1 - share) * images)]] = True
            predicted = np.where(wrong, (labels + 1 + own.integers(0, N_CLASSES - 1, images)) % N_CLASSES, labels)
            found.append(
                Cell(
                    point=point,
                    seed=seed,
                    protocol=protocol,
                    labels=labels,
                    predicted=predicted,
                    val_accuracy=float(np.clip(share + 0.01 * own.standard_normal(), 0, 1)),
                    epoch=point.epochs,
                    gpu_seconds=30.0 * point.epochs + 5 * own.random(),
                )
            )
    return found


def as_published(experiment: Experiment) -> Callable[[Point, Protocol], float]:
    """The published accuracy of a configuration, as the first figure that has it gives it."""
    known: dict[Point, float] = {}
    for figure in experiment.figures:
        for bar in experiment.bars(figure):
            if bar.published is not None:
                known.setdefault(bar.point, bar.published)
    return lambda point, _: known[point]
