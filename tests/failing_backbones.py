"""Backbones of a user's own that go wrong while they train, each in its way."""

import torch
from torch import Tensor, nn

from tests.tiny_backbone import tiny

ROOM = 8
"""Images that `crowded` has memory for."""


class _Failing(nn.Module):
    def __init__(self, kind: str) -> None:
        super().__init__()
        self.inner = tiny()
        self.kind = kind

    def forward(self, images: Tensor) -> Tensor:
        features: Tensor = self.inner(images)
        if self.training and self.kind == "broken":
            raise ArithmeticError("this backbone never learns")
        if self.training and self.kind == "crowded" and len(images) > ROOM:
            raise torch.OutOfMemoryError(f"{len(images)} images are too many")
        return features * torch.inf if self.training and self.kind == "diverging" else features


def broken() -> nn.Module:
    """Raises in training."""
    return _Failing("broken")


def crowded() -> nn.Module:
    """Runs out of memory when it trains on more than `ROOM` images at a time, as a small GPU does."""
    return _Failing("crowded")


def diverging() -> nn.Module:
    """Has no finite loss in training."""
    return _Failing("diverging")
