"""Nearest neighbours of embeddings, and the duplicates and outliers they show."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

ROWS_AT_ONCE = 1024


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
    lengths = np.linalg.norm(embeddings, axis=1, keepdims=True)
    unit = (embeddings / np.where(lengths == 0, 1, lengths)).astype(np.float32)
    rows = np.empty((images, count), dtype=np.int64)
    similarities = np.empty((images, count), dtype=np.float32)
    for start in range(0, images if count else 0, ROWS_AT_ONCE):
        block = unit[start : start + ROWS_AT_ONCE] @ unit.T
        here = np.arange(len(block))
        block[here, start + here] = -np.inf
        order = np.argsort(-block, axis=1, kind="stable")[:, :count]
        rows[start : start + len(block)] = order
        similarities[start : start + len(block)] = np.take_along_axis(block, order, axis=1)
    return Neighbours(rows, np.clip(similarities, -1, 1))


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
    scores = np.sqrt(np.maximum(2 - 2 * neighbours.similarities[:, -1], 0))
    order = np.argsort(-scores, kind="stable")[:count]
    return [(int(row), float(scores[row])) for row in order]
