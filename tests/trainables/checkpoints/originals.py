"""ResNets as their publishers build them, with the keys of their checkpoints; each names the code that it follows."""

import copy
import functools
import itertools
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torchvision.models import get_model

CLASSES, WIDTH = 10, 512
"""Of an online classifier, and of the features of a ResNet-18."""


def trained(model: Any) -> Any:
    """Give a network statistics as if it had been trained."""
    for name, value in model.named_buffers():
        if name.endswith("running_mean"):
            value.normal_(std=0.1)
        elif name.endswith("running_var"):
            value.uniform_(0.5, 1.5)
        else:
            value.fill_(7)
    return model.eval()


@functools.cache
def _resnet18() -> Any:
    torch.manual_seed(0)
    return trained(get_model("resnet18", weights=None))


def resnet18() -> Any:
    """Return torchvision's ResNet-18, each time with the same values."""
    return copy.deepcopy(_resnet18())


class Named(nn.Module):
    """A Lightning module: its parts have the names that are given."""

    def __init__(self, features: Callable[[Any, Tensor], Tensor], **parts: nn.Module) -> None:
        super().__init__()
        self.features = features
        for name, part in parts.items():
            self.add_module(name, part)

    def forward(self, images: Tensor) -> Tensor:
        """(B, 3, S, S) -> (B, 512)."""
        return self.features(self, images)


def mlp(*widths: int) -> nn.Sequential:
    """Return a projection head with a ReLU between its layers."""
    layers: list[nn.Module] = []
    for before, after in itertools.pairwise(widths):
        layers += [nn.Linear(before, after), nn.ReLU()]
    return nn.Sequential(*layers[:-1])


def headless(network: Any, fc: nn.Module | None = None) -> Any:
    """Return a network whose final layer is another, by default none."""
    network.fc = fc if fc is not None else nn.Identity()
    return network


def pooled(network: Any, images: Tensor) -> Tensor:
    """Return the features in front of a torchvision ResNet's final layer."""
    kept, network.fc = network.fc, nn.Identity()
    found: Tensor = network(images)
    network.fc = kept
    return found


def trunk(network: Any) -> nn.Sequential:
    """Return what Lightly and sthalles/PyTorch-BYOL make of it: its children but the last."""
    return nn.Sequential(*list(network.children())[:-1])


class Vissl(nn.Module):
    """vissl/models/trunks/resnext.py."""

    def __init__(self, network: Any) -> None:
        super().__init__()
        names = ("conv1", "bn1", "relu", "maxpool", "layer1", "layer2", "layer3", "layer4", "avgpool")
        blocks = {("conv1_relu" if name == "relu" else name): getattr(network, name) for name in names}
        self._feature_blocks = nn.ModuleDict({**blocks, "flatten": nn.Flatten(1)})

    def forward(self, images: Tensor) -> Tensor:
        """(B, 3, S, S) -> (B, 512)."""
        for block in self._feature_blocks.values():
            images = block(images)
        return images


class Swav(nn.Module):
    """src/resnet50.py of facebookresearch/swav: padding 1, then a convolution that pads 2."""

    conv1: nn.Module
    bn1: nn.Module
    relu: nn.Module
    maxpool: nn.Module
    layer1: nn.Module
    layer2: nn.Module
    layer3: nn.Module
    layer4: nn.Module
    avgpool: nn.Module

    def __init__(self, network: Any) -> None:
        super().__init__()
        network.fc = nn.Identity()
        network.conv1.padding = (2, 2)
        self.padding = nn.ConstantPad2d(1, 0.0)
        for name, part in network.named_children():
            self.add_module(name, part)
        self.projection_head = mlp(WIDTH, WIDTH, 16)
        self.prototypes = nn.Linear(16, 30, bias=False)

    def forward(self, images: Tensor) -> Tensor:
        """(B, 3, S, S) -> (B, 512)."""
        images = self.maxpool(self.relu(self.bn1(self.conv1(self.padding(images)))))
        images = self.layer4(self.layer3(self.layer2(self.layer1(images))))
        return torch.flatten(self.avgpool(images), 1)


def normed(channels: int, *, relu: bool = True) -> nn.Sequential:
    """BatchNormRelu of Separius/SimCLRv2-Pytorch."""
    return nn.Sequential(nn.BatchNorm2d(channels), nn.ReLU() if relu else nn.Identity())


def convolution(before: int, after: int, size: int, stride: int = 1) -> nn.Conv2d:
    """Its convolution."""
    return nn.Conv2d(before, after, size, stride, (size - 1) // 2, bias=False)


class SimClrV2Kernel(nn.Module):
    """SelectiveKernel, as far as its names go."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.main_conv = nn.Sequential(convolution(channels, 2 * channels, 3), normed(2 * channels))
        self.mixing_conv = nn.Sequential(convolution(channels, 32, 1), normed(32), convolution(32, 2 * channels, 1))


class SimClrV2Projection(nn.Module):
    """Projection."""

    def __init__(self, before: int, after: int, stride: int) -> None:
        super().__init__()
        self.shortcut = convolution(before, after, 1, stride)
        self.bn = normed(after, relu=False)

    def forward(self, images: Tensor) -> Tensor:
        """Change the width."""
        changed: Tensor = self.bn(self.shortcut(images))
        return changed


class SimClrV2Block(nn.Module):
    """BottleneckBlock."""

    def __init__(self, before: int, width: int, stride: int, *, first: bool, selective: bool) -> None:
        super().__init__()
        self.projection = SimClrV2Projection(before, 4 * width, stride) if first else nn.Identity()
        middle = [SimClrV2Kernel(width)] if selective else [convolution(width, width, 3, stride), normed(width)]
        self.net = nn.Sequential(
            *(convolution(before, width, 1), normed(width), *middle),
            *(convolution(width, 4 * width, 1), normed(4 * width, relu=False)),
        )

    def forward(self, images: Tensor) -> Tensor:
        """Add what the block learned."""
        return torch.relu(self.projection(images) + self.net(images))


class SimClrV2Blocks(nn.Module):
    """Blocks."""

    def __init__(self, count: int, before: int, width: int, stride: int, *, selective: bool) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(
            SimClrV2Block(4 * width if i else before, width, 1 if i else stride, first=not i, selective=selective)
            for i in range(count)
        )

    def forward(self, images: Tensor) -> Tensor:
        """One block after the other."""
        for block in self.blocks:
            images = block(images)
        return images


class SimClrV2(nn.Module):
    """ResNet-50 of Separius/SimCLRv2-Pytorch, resnet.py, 1x or wider, with or without selective kernels."""

    def __init__(self, *, times: int = 1, selective: bool = False) -> None:
        super().__init__()
        width = 64 * times
        half = width // 2
        deep = (convolution(3, half, 3, 2), normed(half), convolution(half, half, 3), normed(half))
        stem = (*deep, convolution(half, width, 3)) if selective else (convolution(3, width, 7, 2),)
        self.net = nn.Sequential(
            nn.Sequential(*stem, normed(width), nn.MaxPool2d(3, 2, 1)),
            *(
                SimClrV2Blocks(
                    count, 4 * width * 2 ** (n - 1) if n else width, width * 2**n, 2 if n else 1, selective=selective
                )
                for n, count in enumerate((3, 4, 6, 3))
            ),
        )
        self.fc = nn.Linear(32 * width, 1000)

    def forward(self, images: Tensor) -> Tensor:
        """(B, 3, S, S) -> (B, 2048)."""
        found: Tensor = self.net(images).mean(dim=[2, 3])
        return found
