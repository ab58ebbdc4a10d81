"""Nearest neighbours of embeddings, and the duplicates and outliers they show."""

import logging
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from trainables.steps import LongWork

logger = logging.getLogger(__name__)

SIMILARITIES_AT_ONCE = 2**22
"""Cosines that are in memory at a time: 64 MB with their order. It decides no number."""
DUPLICATE_SHARE = 0.25
"""Of the usual distance of an image to its nearest neighbour, below which two images are likely duplicates. What cosine
means "the same" depends on the network: in one with random values all images are alike."""


@dataclass(frozen=True)
class Neighbours:
    """The nearest neighbours of each row, nearest first, the row itself left out.

    Attributes:
        rows: int64 [images, count], row numbers.
        similarities: float32 [images, count], cosines in [-1, 1].
    """

    rows: NDArray[np.int64]
    similarities: NDArray[np.float32]


def nearest(embeddings: NDArray[np.float32], count: int) -> Neighbours:
    """Find each row's most similar rows by the cosine, exactly.

    Args:
        embeddings: float [images, features], finite; a row of zeros has
            cosine 0 to every row.
        count: neighbours per row, from 1; fewer where there are fewer rows.

    Raises:
        ValueError: Not two-dimensional, not finite, or a count below 1.
    """
    if embeddings.ndim != 2 or not np.isfinite(embeddings).all():
        raise ValueError("embeddings must be a finite [images, features] array")
    if count < 1:
        raise ValueError(f"count must be at least 1, not {count}")
    images = len(embeddings)
    count = min(count, max(images - 1, 0))
    unit = unit_rows(embeddings)
    rows = np.empty((images, count), dtype=np.int64)
    similarities = np.empty((images, count), dtype=np.float32)
    work = LongWork(logger, "neighbours")
    size = max(1, SIMILARITIES_AT_ONCE // max(images, 1))
    for start in range(0, images if count else 0, size):
        block = unit[start : start + size] @ unit.T
        here = np.arange(len(block))
        block[here, start + here] = -np.inf
        found = np.sort(np.argpartition(-block, count - 1, axis=1)[:, :count], axis=1)
        order = np.take_along_axis(found, np.argsort(-np.take_along_axis(block, found, 1), kind="stable"), 1)
        rows[start : start + len(block)] = order
        similarities[start : start + len(block)] = np.take_along_axis(block, order, axis=1)
        work.at(start, images, "compared %d of %d images with all", start, images)
    return Neighbours(rows, np.clip(similarities, -1, 1))


def unit_rows(embeddings: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return rows scaled to length 1, float32; a row of zeros stays one."""
    lengths = np.linalg.norm(embeddings, axis=1, keepdims=True)
    scaled: NDArray[np.float32] = (embeddings / np.where(lengths == 0, 1, lengths)).astype(np.float32)
    return scaled


def duplicate_cosine(neighbours: Neighbours) -> float:
    """Return the cosine from which two images are likely duplicates, in [-1, 1].

    It is that of `DUPLICATE_SHARE` of the median distance between an image and its nearest neighbour; a median, so that
    a few copies move it little. 1 where no image has a neighbour.
    """
    if not neighbours.rows.size:
        return 1.0
    usual = float(np.median(_distances(neighbours.similarities[:, 0])))
    # float32 cosines of equal rows are this far from 1.
    return min(1 - (DUPLICATE_SHARE * usual) ** 2 / 2, 1 - 1e-6)


def _distances(cosines: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the Euclidean distances of rows of length 1, in [0, 2]."""
    distances: NDArray[np.float32] = np.sqrt(np.maximum(2 - 2 * cosines, 0))
    return distances


def likely_duplicates(neighbours: Neighbours, least: float) -> list[tuple[int, int, float]]:
    """List pairs (lower row, higher row, cosine) with a cosine of at least `least`.

    Only pairs among the neighbours found are seen. Most similar first.
    """
    pairs = {
        (min(row, int(other)), max(row, int(other))): float(similarity)
        for row, (others, similarities) in enumerate(zip(neighbours.rows, neighbours.similarities, strict=True))
        for other, similarity in zip(others, similarities, strict=True)
        if similarity >= least
    }
    return sorted(((a, b, s) for (a, b), s in pairs.items()), key=lambda p: (-p[2], p[:2]))


def outliers(neighbours: Neighbours, count: int) -> list[tuple[int, float]]:
    """List the `count` rows farthest from their last neighbour, farthest first.

    The score is the distance to the k-th nearest neighbour (Ramaswamy et al.,
    SIGMOD 2000) of embeddings scaled to unit length (Sun et al., ICML 2022):
    sqrt(2 - 2 cosine), in [0, 2]. Empty where no row has a neighbour.
    """
    if not neighbours.rows.shape[1]:
        return []
    scores = _distances(neighbours.similarities[:, -1])
    order = np.argsort(-scores, kind="stable")[:count]
    return [(int(row), float(scores[row])) for row in order]
