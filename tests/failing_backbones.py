"""Backbones of a user's own that go wrong while they train, each in its way."""

import errno
import os
from pathlib import Path

import torch
from torch import Tensor, nn

from tests.tiny_backbone import tiny

ROOM = 8
"""Images that `crowded` has memory for."""

SECOND_EPOCH = 50
"""A step of the second epoch on `digits` in batches of 32."""


class _Failing(nn.Module):
    def __init__(self, kind: str) -> None:
        super().__init__()
        self.inner = tiny()
        self.kind = kind
        self.steps = 0
        self.spoiled: bool | None = None

    def forward(self, images: Tensor) -> Tensor:
        features: Tensor = self.inner(images)
        if self.training and self.kind == "broken":
            raise ArithmeticError("this backbone never learns")
        if self.training and self.kind == "unplugged" and (mark := _folder() / "unplugged").exists():
            raise OSError(errno.EIO, "Input/output error", str(mark))
        if self.training and self.kind == "flaky":
            self.steps += 1
            mark = _folder() / "flaked"
            if self.steps == SECOND_EPOCH and not mark.exists():
                mark.touch()
                raise ArithmeticError("this backbone fails once")
        if self.training and self.kind == "crowded" and len(images) > ROOM:
            raise torch.OutOfMemoryError(f"{len(images)} images are too many")
        if self.training and self.kind == "spoiled" and self.spoiled is None:
            self.spoiled = _take_mark("spoil")
        diverges = self.kind == "diverging" or self.spoiled
        return features * torch.inf if self.training and diverges else features


def _folder() -> Path:
    return Path(os.environ["HPO_DATA_DIR"])


def _take_mark(name: str) -> bool:
    """Remove one of the files of that name that a test has put down; return whether there was one."""
    mark = next(iter(sorted(_folder().glob(f"{name}-*"))), None)
    if mark is not None:
        mark.unlink()
    return mark is not None


def broken() -> nn.Module:
    """Raises in training."""
    return _Failing("broken")


def crowded() -> nn.Module:
    """Runs out of memory when it trains on more than `ROOM` images at a time, as a small GPU does."""
    return _Failing("crowded")


def diverging() -> nn.Module:
    """Has no finite loss in training."""
    return _Failing("diverging")


def spoiled() -> nn.Module:
    """Has no finite loss in as many trainings as there are files ``spoil-*`` in the data folder."""
    return _Failing("spoiled")


def flaky() -> nn.Module:
    """Raises once, in the second epoch."""
    return _Failing("flaky")


def unplugged() -> nn.Module:
    """Cannot read its disk in training while there is a file ``unplugged`` in the data folder."""
    return _Failing("unplugged")
