"""Accuracies and their differences over several seeds on the same test images, with intervals and p-values.

Two things are random: which images the test split holds, and the seed of a training. What a seed has right is a
(seeds, images) table of two crossed factors. Its mean varies by the images, as the variance of the images' means over
the seeds says, and by the seeds, as the variance of the seeds' accuracies over the images says. The variance of the
mean is taken as the sum of both, each by its count; what images and seeds have in common is so counted twice, which
errs on the safe side (Owen 2007, "The pigeonhole bootstrap", section 3; Cameron, Gelbach & Miller 2011, "Robust
inference with multiway clustering", which subtracts it). The degrees of freedom are Satterthwaite's (1946). A single
seed says nothing of other seeds: its interval covers the images alone.
"""

import math
from dataclasses import dataclass

import numpy as np
from scipy.stats import t as student

from hpo.final.significance import wilson_interval

_CONFIDENCE = 0.95


@dataclass(frozen=True)
class Estimate:
    """An accuracy, or a difference of two, with its 95 % interval."""

    value: float
    """In [0, 1], or in [-1, 1]."""
    low: float
    high: float
    n_seeds: int


@dataclass(frozen=True)
class PairedDifference(Estimate):
    """The first accuracy minus the second, on the same images and by the same seeds."""

    centre: float
    """Of the interval: `value`, a little nearer to 0."""
    error: float
    """Standard error of `centre`."""
    freedom: float
    """Degrees of freedom of `error`."""

    def p_above(self, bound: float) -> float:
        """Return the one-sided p-value of that the difference is at most `bound`."""
        return float(student.sf((self.centre - bound) / self.error, self.freedom))

    def p_below(self, bound: float) -> float:
        """Return the one-sided p-value of that the difference is at least `bound`."""
        return float(student.cdf((self.centre - bound) / self.error, self.freedom))


def accuracy(right: np.ndarray) -> Estimate:
    """Return the mean accuracy of some seeds.

    One seed has Wilson's interval; several have that of the module's docstring, with two images more that are right and
    two that are wrong (Agresti & Coull 1998).

    Args:
        right: (S, N) bool, which images each seed has right; at least one seed and one image.
    """
    n_seeds, n_images = right.shape
    value = float(right.mean())
    if n_seeds == 1:
        return Estimate(value, *wilson_interval(int(right.sum()), n_images), 1)
    centre, error, freedom = _crossed(right.astype(float), np.asarray([1.0, 1.0, 0.0, 0.0]))
    half = error * float(student.ppf((1 + _CONFIDENCE) / 2, freedom))
    return Estimate(value, max(0.0, min(value, centre - half)), min(1.0, max(value, centre + half)), n_seeds)


def difference(first: np.ndarray, second: np.ndarray) -> PairedDifference:
    """Return the mean of the first accuracy minus the second, paired by image and by seed.

    Half an image more is right in both, in neither, in the first alone and in the second alone (Agresti & Min 2005,
    "Simple improved confidence intervals for comparing matched proportions").

    Args:
        first: (S, N) bool, which images each seed has right.
        second: (S, N) bool, of the same seeds and images in the same order.
    """
    table = first.astype(float) - second.astype(float)
    # Two images with the sum and the sum of squares of the four halves.
    centre, error, freedom = _crossed(table, np.asarray([math.sqrt(0.5), -math.sqrt(0.5)]))
    half = error * float(student.ppf((1 + _CONFIDENCE) / 2, freedom))
    low, high = max(-1.0, centre - half), min(1.0, centre + half)
    return PairedDifference(float(table.mean()), low, high, len(first), centre, error, freedom)


def _crossed(table: np.ndarray, more: np.ndarray) -> tuple[float, float, float]:
    """Return the mean of a (S, N) table with crossed factors, its standard error and the degrees of freedom.

    Args:
        table: A value of each seed and image.
        more: Values of images that are added to them.
    """
    n_seeds = len(table)
    images = np.concatenate([table.mean(axis=0), more])
    n_images = len(images)
    by_images = float(images.var()) / n_images
    by_seeds = float(table.mean(axis=1).var(ddof=1)) / n_seeds if n_seeds > 1 else 0.0
    total = by_images + by_seeds
    freedom = total**2 / (by_images**2 / (n_images - 1) + (by_seeds**2 / (n_seeds - 1) if n_seeds > 1 else 0.0))
    return float(images.mean()), math.sqrt(total), freedom
