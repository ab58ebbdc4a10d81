"""The weighted k-nearest-neighbour classifier by which features are judged while no label trains them."""

import torch
from torch import Tensor
from torch.nn.functional import normalize

NEIGHBOURS = 200
TEMPERATURE = 0.07
"""Both from Wu et al. 2018, "Unsupervised Feature Learning via Non-Parametric Instance Discrimination", section 3.4."""
_QUERIES = 1024
"""Images that are classified at a time; it decides no number, only memory."""


def knn_accuracy(bank: Tensor, bank_labels: Tensor, queries: Tensor, query_labels: Tensor) -> float:
    """Return the share of queries that their nearest neighbours by cosine similarity s classify right.

    Each of the `NEIGHBOURS` nearest votes for its class with exp(s / `TEMPERATURE`).

    Args:
        bank: (N, D) features.
        bank_labels: (N,) int64 classes.
        queries: (M, D) features, at least one.
        query_labels: (M,) int64 classes.
    """
    known, right = normalize(bank, dim=1), 0
    classes = int(bank_labels.max()) + 1
    for start in range(0, len(queries), _QUERIES):
        asked = normalize(queries[start : start + _QUERIES], dim=1)
        nearest, index = (asked @ known.T).topk(min(NEIGHBOURS, len(known)), dim=1)
        # Less 1, the greatest similarity, no power is beyond float32.
        weights = torch.exp((nearest - 1) / TEMPERATURE)
        votes = weights.new_zeros(len(asked), classes).scatter_add_(1, bank_labels[index], weights)
        predicted = votes.argmax(dim=1)
        right += int((predicted == query_labels[start : start + _QUERIES]).sum())
    return right / len(queries)
