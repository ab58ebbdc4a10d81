"""On a card, too, the same configuration gives the same numbers."""

from pathlib import Path

import pytest
import torch
from torch import nn

from tests.gpu.card import NEEDS_CARD, numbers, trial
from trainables.config import TrialConfig
from trainables.training.device import choose
from trainables.training.trial import run_trial

pytestmark = NEEDS_CARD


def test_cudnn_is_set_to_repeat_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.backends.cudnn, "deterministic", False)
    monkeypatch.setattr(torch.backends.cudnn, "benchmark", True)

    compute = choose("auto", 1, nn.Linear(2, 2))

    assert torch.backends.cudnn.deterministic
    assert not torch.backends.cudnn.benchmark
    assert compute.device.type == "cuda"
    assert compute.name == torch.cuda.get_device_name()


def twice(config: TrialConfig) -> None:
    first = numbers(run_trial(config))

    assert len(first) == config.epochs
    assert numbers(run_trial(config)) == first


@pytest.mark.parametrize("precision", ["fp32", "auto"])
def test_a_small_network_repeats_itself(tmp_path: Path, precision: str) -> None:
    twice(trial(tmp_path, precision="fp32" if precision == "fp32" else "auto", augment="standard"))


@pytest.mark.parametrize(
    ("backbone", "image_size"),
    [
        ("resnet18", 64),
        ("vgg", 64),
        ("swin", 64),
        # Attention over 197 tokens, more than a block of its backward pass takes at a time.
        ("torchvision:vit_b_16", 224),
    ],
)
def test_a_published_network_repeats_itself(tmp_path: Path, backbone: str, image_size: int) -> None:
    config = trial(tmp_path, backbone, weights="none", image_size=image_size, batch_size=16, label_fraction=0.1)

    twice(config)
