"""LARS by hand, and the learning rate's course."""

import dataclasses
import math

import pytest
import torch
from torch import nn

from trainables.config import DataConfig
from trainables.contrastive.config import composed
from trainables.contrastive.optimizer import Lars, learning_rate, new_optimizer

CONFIG = composed(
    DataConfig(dataset="digits"),
    "small:resnet18",
    32,
    {"batch_size": 1024, "epochs": 20, "warmup_epochs": 10, "optimizer": "lars"},
    knn_every=1,
    precision="fp32",
    seed=0,
)


def test_lars_takes_the_steps_of_its_paper() -> None:
    weights = nn.Parameter(torch.tensor([[3.0, 4.0]]))
    bias = nn.Parameter(torch.tensor([2.0]))
    groups = [
        {"params": [weights], "weight_decay": 0.1, "adapts": True},
        {"params": [bias], "weight_decay": 0.0, "adapts": False},
    ]
    optimizer = Lars(groups, lr=0.5)
    w, v, b, u = [3.0, 4.0], [0.0, 0.0], 2.0, 0.0

    for slope in (1.0, -2.0):
        weights.grad, bias.grad = torch.full((1, 2), slope), torch.full((1,), slope)
        optimizer.step()
        change = [slope + 0.1 * one for one in w]
        local = 0.001 * math.hypot(*w) / math.hypot(*change)
        v = [0.9 * a + 0.5 * local * c for a, c in zip(v, change, strict=True)]
        w = [a - c for a, c in zip(w, v, strict=True)]
        u = 0.9 * u + 0.5 * slope
        b -= u

    assert weights.tolist()[0] == pytest.approx(w)
    assert bias.tolist() == pytest.approx([b])


@pytest.mark.parametrize("name", ["lars", "adam"])
def test_biases_and_batch_norms_do_not_decay(name: str) -> None:
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(4, 2))
    config = dataclasses.replace(CONFIG, optimizer=name)  # type: ignore[arg-type]

    decaying, others = new_optimizer(config, network).param_groups

    assert [tuple(one.shape) for one in decaying["params"]] == [(4, 3, 3, 3), (2, 4)]
    assert (decaying["weight_decay"], others["weight_decay"], len(others["params"])) == (1e-6, 0.0, 4)


def test_the_rate_grows_with_the_batch() -> None:
    assert CONFIG.peak_learning_rate == pytest.approx(0.3 * 1024 / 256)
    assert dataclasses.replace(CONFIG, scaling="sqrt").peak_learning_rate == pytest.approx(0.3 * 2)


def test_the_rate_rises_linearly_and_falls_by_half_a_cosine() -> None:
    rates = [learning_rate(CONFIG, step, 5) for step in range(100)]

    assert rates[:50] == pytest.approx([1.2 * (step + 1) / 50 for step in range(50)])
    assert rates[50] == pytest.approx(1.2)
    assert rates[75] == pytest.approx(0.6)
    assert 0 < rates[99] < 0.01
    assert learning_rate(dataclasses.replace(CONFIG, warmup_epochs=0), 0, 5) == pytest.approx(1.2)
