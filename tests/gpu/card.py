"""What the tests on a card share: their marks, a small trial, and how its numbers are compared."""

from collections.abc import Iterable
from pathlib import Path

import pytest
import torch

from trainables.config import (
    Augment,
    DataConfig,
    EpochResult,
    FreezeMode,
    MachineConfig,
    ModelConfig,
    Precision,
    TrialConfig,
)

NEEDS_CARD = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an NVIDIA card that torch can use"),
]
"""Each module's `pytestmark`."""


def trial(
    folder: Path,
    backbone: str = "tests.tiny_backbone:tiny",
    *,
    weights: str = "default",
    precision: Precision = "auto",
    mode: FreezeMode = "none",
    augment: Augment = "none",
    image_size: int = 16,
    batch_size: int = 64,
    label_fraction: float = 1.0,
) -> TrialConfig:
    """Return a trial of three epochs on `digits`, whose data lies in `folder`."""
    return TrialConfig(
        data=DataConfig(dataset="digits", augment=augment, label_fraction=label_fraction),
        model=ModelConfig(backbone=backbone, weights=weights, precision=precision, image_size=image_size),
        learning_rate=3e-3,
        batch_size=batch_size,
        epochs=3,
        freeze_mode=mode,
        seed=5,
        machine=MachineConfig(data_dir=str(folder)),
    )


def numbers(results: Iterable[EpochResult]) -> list[tuple[float | None, ...]]:
    """Return what of each epoch must repeat: all but its times."""
    return [(one.epoch, one.val_accuracy, one.val_loss, one.train_loss, one.learning_rate) for one in results]
