"""The weighted kNN classifier against the formula of its paper, image by image."""

import math

import pytest
import torch

from trainables.contrastive import knn
from trainables.contrastive.knn import knn_accuracy


def test_it_votes_as_wu_and_others_say(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(knn, "NEIGHBOURS", 7)
    monkeypatch.setattr(knn, "_QUERIES", 5)
    generator = torch.Generator().manual_seed(0)
    bank, queries = (torch.randn(n, 4, generator=generator, dtype=torch.float64) for n in (40, 23))
    labels, wanted = (torch.randint(3, (n,), generator=generator) for n in (40, 23))

    right = 0
    for query, label in zip(queries, wanted.tolist(), strict=True):
        cosines = [float(query @ one / (query.norm() * one.norm())) for one in bank]
        nearest = sorted(range(40), key=lambda i: -cosines[i])[:7]
        votes = [sum(math.exp(cosines[i] / 0.07) for i in nearest if labels[i] == c) for c in range(3)]
        right += votes.index(max(votes)) == label

    assert knn_accuracy(bank, labels, queries, wanted) == pytest.approx(right / 23)
    assert 0 < right < 23


def test_a_bank_of_fewer_images_than_neighbours_is_enough() -> None:
    bank = torch.eye(3)

    assert knn_accuracy(bank, torch.tensor([0, 1, 2]), bank, torch.tensor([0, 1, 1])) == pytest.approx(2 / 3)
