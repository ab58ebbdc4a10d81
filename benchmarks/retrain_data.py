"""The datasets of `benchmarks.retrain` and the small network that learns them, pretrained on another dataset each."""

import copy
import math
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from safetensors.torch import save_file
from torch import nn
from torch.optim.lr_scheduler import ReduceLROnPlateau
from torchvision.models.resnet import BasicBlock

from trainables.config import DataConfig, EpochResult, Geometry, MachineConfig, ModelConfig, TrialConfig
from trainables.data.datasets import LabelledImages, training_images
from trainables.data.held_out import held_out_images
from trainables.training.epoch import Learner
from trainables.training.trial import TrainingData, begin, run_epoch

TOPS = (0, 2, 3, 4, 6)
"""Fashion-MNIST's T-shirt, pullover, dress, coat and shirt, which are hard to tell apart."""
OTHERS = (1, 5, 7, 8, 9)
TEST_IMAGES = 1000
GEOMETRY = Geometry(resize=14, crop=14, interpolation="bilinear", mean=(0.5,) * 3, std=(0.5,) * 3)


def small() -> nn.Module:
    """Return (B, 3, 14, 14) -> (B, 128) features of a network that stands for a backbone, in three stages."""

    def stage(channels: int, out: int, *more: nn.Module) -> nn.Module:
        convolution = nn.Conv2d(channels, out, 3, stride=2, padding=1, bias=False)
        return nn.Sequential(convolution, nn.BatchNorm2d(out), nn.ReLU(), *more)

    last = stage(16, 32, nn.AdaptiveAvgPool2d(2), nn.Flatten())
    network = nn.Sequential(OrderedDict(one=stage(3, 8), two=stage(8, 16), three=last))
    setattr(network, "geometry", GEOMETRY)  # noqa: B010 - see backbones.py
    return network


def narrow_resnet18() -> nn.Module:
    """Return (B, 3, H, W) -> (B, 128) features of a ResNet-18 of a quarter of its width, a tenth as dear to train."""

    def block(channels: int, out: int, stride: int) -> nn.Module:
        shortcut = nn.Sequential(nn.Conv2d(channels, out, 1, stride, bias=False), nn.BatchNorm2d(out))
        made: nn.Module = BasicBlock(channels, out, stride, shortcut if stride > 1 else None)
        return made

    stem = nn.Sequential(nn.Conv2d(3, 16, 7, 2, 3, bias=False), nn.BatchNorm2d(16), nn.ReLU(), nn.MaxPool2d(3, 2, 1))
    widths = [(16, 16, 1), (16, 32, 2), (32, 64, 2), (64, 128, 2)]
    stages = [nn.Sequential(block(*width), block(width[1], width[1], 1)) for width in widths]
    return nn.Sequential(stem, *stages, nn.AdaptiveAvgPool2d(1), nn.Flatten())


@dataclass(frozen=True)
class Task:
    """A dataset to learn, and the other one that its pretrained weights have seen."""

    dataset: str
    """As `DataConfig` has it."""
    weights: str
    """A file of `small`'s weights."""


def tasks(folder: Path) -> dict[str, Task]:
    """Write the subsets and the pretrained weights that are not there yet, and return the datasets by name."""
    fashion = DataConfig(dataset="fashion-mnist")
    training, test = (read(fashion, str(folder)) for read in (training_images, held_out_images))
    others = _pretrain(folder, "others", subset(folder, "others", training, test, OTHERS, 5000), 4)
    whole = _pretrain(folder, "fashion", fashion.dataset, 2)
    digits = _pretrain(folder, "digits", "digits", 20)
    every = tuple(range(10))
    return {
        "tops-250": Task(subset(folder, "tops-250", training, test, TOPS, 250), others),
        "fashion-500": Task(subset(folder, "fashion-500", training, test, every, 500), digits),
        "digits": Task("digits", whole),
        "tops-2000": Task(subset(folder, "tops-2000", training, test, TOPS, 2000), others),
    }


def subset(
    folder: Path, name: str, training: LabelledImages, test: LabelledImages, classes: Sequence[int], size: int
) -> str:
    """Write `size` training images and `TEST_IMAGES` others, the same number of each class; return the dataset."""
    for part, images, wanted in (("train", training, size), ("test", test, TEST_IMAGES)):
        for label in classes if not (folder / name / part).exists() else ():
            (place := folder / name / part / str(label)).mkdir(parents=True)
            members = np.random.default_rng(size).permutation(np.flatnonzero(images.labels == label))
            for index in members[: wanted // len(classes)].tolist():
                images.read(index).save(place / f"{images.ids[index]}.png")
    return f"imagefolder:{folder / name}"


def _pretrain(folder: Path, name: str, dataset: str, epochs: int) -> str:
    """Train `small` from random weights and return the file of its weights."""
    path = folder / f"{name}.safetensors"
    if not path.exists():
        config = TrialConfig(
            data=DataConfig(dataset=dataset),
            model=model("default"),
            learning_rate=2e-3,
            batch_size=64,
            epochs=epochs,
            machine=MachineConfig(data_dir=str(folder)),
        )
        learner, images = begin(config)
        for _ in train_on_all(learner, images, cosine(config)):
            pass
        save_file(learner.network.model.get_submodule("backbone").state_dict(), path)
    return str(path)


def model(weights: str) -> ModelConfig:
    """Return `small` with a file of its weights, or with random ones by the word ``default``."""
    return ModelConfig(backbone="benchmarks.retrain_data:small", weights=weights)


def train_on_all(learner: Learner, data: TrainingData, learning_rates: Sequence[float]) -> Iterator[EpochResult]:
    """Train on training and validation images together, one epoch for each of `learning_rates`."""
    labelled = np.concatenate([data.splits.train, data.splits.validation])
    for epoch, learning_rate in enumerate(learning_rates, start=1):
        for group in learner.optimizer.param_groups:
            group["lr"] = learning_rate
        yield run_epoch(learner, data.examples, labelled, labelled[:0], epoch)


def train_with_validation(learner: Learner, data: TrainingData) -> Iterator[EpochResult]:
    """Train as a trial does, the schedule driven by validation; the learner is left at its best epoch."""
    schedule = ReduceLROnPlateau(learner.optimizer)
    network, best, weights = learner.network.model, -1.0, {}
    for epoch in range(1, learner.config.epochs + 1):
        result = run_epoch(learner, data.examples, data.splits.train, data.splits.validation, epoch)
        assert result.val_loss is not None
        schedule.step(result.val_loss)
        if result.val_accuracy > best:
            best, weights = result.val_accuracy, copy.deepcopy(network.state_dict())
        yield result
    network.load_state_dict(weights)


def cosine(config: TrialConfig, epochs: int | None = None, flat: int = 0) -> list[float]:
    """Return one learning rate per epoch that falls to zero along half a cosine behind the first `flat` epochs."""
    falling = (epochs or config.epochs) - flat
    return [config.learning_rate] * flat + [
        config.learning_rate * (1 + math.cos(math.pi * epoch / falling)) / 2 for epoch in range(falling)
    ]
