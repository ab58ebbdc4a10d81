"""The estimate of a trial's memory agrees with what torch's allocator counts on a card."""

from pathlib import Path

import pytest
import torch
from torchvision.models import get_model

from tests.gpu.card import NEEDS_CARD, trial
from trainables.config import PAPER_BACKBONES, Augment, FreezeMode, Precision, TrialConfig
from trainables.training import memory
from trainables.training.device import release_memory
from trainables.training.epoch import EVALUATION_BATCH, evaluate, train_epoch
from trainables.training.trial import begin

pytestmark = NEEDS_CARD

LEAST, MOST = 0.9, 1.35
"""Bounds of estimated by measured memory: the estimate knows no workspaces, and counts all gradients at any time."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where all trials find the same images, and each backbone its weights."""
    return tmp_path_factory.mktemp("data")


def weights(folder: Path, backbone: str) -> str:
    """Return the path of random weights: those of a frozen part have to come from a file."""
    path = folder / f"{backbone}.pth"
    if not path.exists():
        torch.save(get_model(PAPER_BACKBONES[backbone], weights=None).state_dict(), path)
    return str(path)


def measured_bytes(config: TrialConfig) -> int:
    """Return the most that two steps of training and an evaluation keep on the card, the frozen part's included."""
    release_memory()
    before = torch.cuda.memory_allocated()
    learner, data = begin(config)
    train_epoch(learner, data.examples, data.splits.train[: 2 * config.batch_size], 1)
    evaluate(learner, data.examples, data.splits.validation[:EVALUATION_BATCH])
    return torch.cuda.max_memory_allocated() - before


def estimated_bytes(config: TrialConfig) -> int:
    width = 4 if config.model.precision == "fp32" else 2
    need = memory.estimate(config.model, config.freeze_mode, classes=10, augment=config.data.augment, width=width)
    return need.bytes_at(config.batch_size)


@pytest.mark.parametrize(
    ("backbone", "mode", "precision", "augment", "batch_size"),
    [
        ("resnet18", "none", "fp32", "none", 64),
        ("resnet18", "none", "fp16", "standard", 64),
        ("resnet50", "none", "fp16", "none", 32),
        ("resnet50", "partial", "fp16", "standard", 64),
        ("resnet50", "backbone", "fp32", "none", 32),
        ("vgg", "none", "fp16", "none", 16),
        ("vgg", "backbone", "fp16", "none", 16),
        ("vit", "none", "fp16", "none", 32),
        ("vit", "partial", "fp16", "standard", 32),
        ("swin", "none", "fp16", "none", 32),
        ("swin", "backbone", "fp16", "none", 32),
    ],
)
def test_a_trial_takes_about_the_memory_that_was_estimated(
    folder: Path, backbone: str, mode: FreezeMode, precision: Precision, augment: Augment, batch_size: int
) -> None:
    config = trial(
        folder,
        backbone,
        weights=weights(folder, backbone),
        precision=precision,
        mode=mode,
        augment=augment,
        image_size=224,
        batch_size=batch_size,
    )

    assert LEAST < estimated_bytes(config) / measured_bytes(config) < MOST
