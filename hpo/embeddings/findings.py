"""What is found among embeddings: neighbours, likely duplicates, outliers, and which images a page shows."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from trainables.embeddings.neighbours import Neighbours, duplicate_cosine, likely_duplicates, nearest, outliers

NEIGHBOURS = 12
"""Of each image; the last one's distance is its score as an outlier."""
OUTLIERS = 100
"""Images that are farthest from others, in the file."""
SHOWN = 2000
"""Images on the page at most."""
SHOWN_PAIRS, SHOWN_OUTLIERS = 40, 24
"""Of duplicates and outliers, on the page."""


@dataclass(frozen=True)
class Findings:
    """Found among all images."""

    neighbours: Neighbours
    duplicates: list[tuple[int, int, float]]
    """Rows a < b and their cosine, the most similar first."""
    least_cosine: float
    """From which two images are likely duplicates."""
    outliers: list[tuple[int, float]]
    """Rows and the distance to their last neighbour, in [0, 2], the farthest first."""


def find(embeddings: NDArray[np.float32]) -> Findings:
    """Compare all images with all: the time grows with the square of their number, memory does not.

    Args:
        embeddings: (N, D), finite.
    """
    neighbours = nearest(embeddings, NEIGHBOURS)
    least = duplicate_cosine(neighbours)
    return Findings(neighbours, likely_duplicates(neighbours, least), least, outliers(neighbours, OUTLIERS))


def shown_rows(findings: Findings, seed: int) -> NDArray[np.int64]:
    """Return the rows that a page shows, sorted: all, or of more than `SHOWN` those listed and a random draw."""
    count = len(findings.neighbours.rows)
    if count <= SHOWN:
        return np.arange(count)
    pairs = [row for a, b, _ in findings.duplicates[:SHOWN_PAIRS] for row in (a, b)]
    listed = np.unique([*pairs, *(row for row, _ in findings.outliers[:SHOWN_OUTLIERS])]).astype(np.int64)
    others = np.setdiff1d(np.arange(count), listed)
    drawn = np.random.default_rng(seed).choice(others, SHOWN - len(listed), replace=False)
    return np.sort(np.concatenate([listed, drawn]))
