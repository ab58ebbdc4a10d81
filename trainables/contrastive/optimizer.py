"""LARS or Adam, and the learning rate of each step."""

import math
from collections.abc import Iterable
from typing import Any

import torch
from torch import nn

from trainables.contrastive.config import PretrainConfig
from trainables.training.adam import EagerAdam

_MOMENTUM = 0.9
_TRUST = 0.001
"""LARS's coefficient eta, and its momentum (google-research/simclr, lars_optimizer.py)."""


def new_optimizer(config: PretrainConfig, network: nn.Module) -> torch.optim.Optimizer:
    """Return the optimiser of `config`; biases and batch norms neither decay nor, in LARS, have a rate of their own."""
    parameters = [parameter for parameter in network.parameters() if parameter.requires_grad]
    groups: list[dict[str, Any]] = [
        {"params": [one for one in parameters if one.ndim > 1], "weight_decay": config.weight_decay, "adapts": True},
        {"params": [one for one in parameters if one.ndim <= 1], "weight_decay": 0.0, "adapts": False},
    ]
    if config.optimizer == "adam":
        return EagerAdam(groups, lr=config.peak_learning_rate, fused=True)
    return Lars(groups, config.peak_learning_rate)


class Lars(torch.optim.Optimizer):
    """Layer-wise adaptive rate scaling (You et al. 2017) as in SimCLR's published code: momentum of scaled steps."""

    def __init__(self, groups: Iterable[dict[str, Any]], lr: float) -> None:
        super().__init__(groups, {"lr": lr})

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override] # noqa: ARG002 - no closure is needed
        """Take one step."""
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is None:
                    continue
                change = parameter.grad.add(parameter, alpha=group["weight_decay"])
                if group["adapts"]:
                    size, slope = parameter.norm(), change.norm()
                    rate = torch.where((size > 0) & (slope > 0), _TRUST * size / slope, 1.0)
                    change = change * rate
                velocity = self.state[parameter].setdefault("velocity", torch.zeros_like(parameter))
                velocity.mul_(_MOMENTUM).add_(change * group["lr"])
                parameter.sub_(velocity)


def learning_rate(config: PretrainConfig, step: int, steps_per_epoch: int) -> float:
    """Return the rate of a step, counted from 0: a linear rise, then half a cosine (Loshchilov & Hutter 2017) to 0."""
    warmup = round(config.warmup_epochs * steps_per_epoch)
    if step < warmup:
        return config.peak_learning_rate * (step + 1) / warmup
    share = (step - warmup) / max(1, config.epochs * steps_per_epoch - warmup)
    return config.peak_learning_rate * 0.5 * (1 + math.cos(math.pi * share))
