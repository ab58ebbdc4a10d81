"""Maps of embeddings in two dimensions, by scikit-learn's PCA and t-SNE."""

import numpy as np
from numpy.typing import NDArray

from trainables.embeddings.neighbours import unit_rows

PCA_FIRST = 50
"""Principal components that t-SNE is given, as van der Maaten & Hinton (2008), section 4.2, give it 30."""
PERPLEXITY = 30.0
"""Theirs, too, of at least three times as many images; a third of the images where there are fewer."""
LEAST = 5
"""Images below which there is nothing for t-SNE to arrange."""


def projections(embeddings: NDArray[np.float32], seed: int) -> dict[str, NDArray[np.float32]]:
    """Lay embeddings out in two dimensions, so that a small distance means a large cosine.

    Both work on rows scaled to unit length, whose squared Euclidean distance is 2 - 2 cosine. The same embeddings and
    seed give the same maps on the same machine.

    Args:
        embeddings: (N, D) float, finite, N at least 1; t-SNE takes time N log N, 14 s for 2,000 on a slow core.
        seed: Of the randomised PCA and of t-SNE, from 0 to 2**32 - 1.

    Returns:
        ``pca``, and ``tsne`` where there are at least `LEAST` different rows: (N, 2) float32 each.
    """
    # scikit-learn takes a second to be imported.
    from sklearn.decomposition import PCA
    from sklearn.manifold import TSNE
    from threadpoolctl import threadpool_limits

    rows = unit_rows(embeddings)
    count = min(PCA_FIRST, *rows.shape)
    if count < 2 or not (rows != rows[0]).any():
        return {"pca": np.zeros((len(rows), 2), np.float32)}
    components = PCA(count, random_state=seed).fit_transform(rows).astype(np.float32)
    maps = {"pca": components[:, :2]}
    if len(np.unique(rows, axis=0)) >= LEAST:
        # Threads add up in an order of their own, and t-SNE turns the last digit into another picture.
        with threadpool_limits(1, "openmp"):
            tsne = TSNE(perplexity=min(PERPLEXITY, (len(rows) - 1) / 3), init="pca", random_state=seed)
            maps["tsne"] = tsne.fit_transform(components).astype(np.float32)
    return maps
