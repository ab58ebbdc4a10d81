"""A small convolutional backbone, so that tests of the whole system take seconds: a user's own, as the README says."""

import torch
from torch import nn


def tiny() -> nn.Module:
    """Return (B, 3, H, W) -> (B, 64) features, "pretrained" in that its weights are always the same."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return nn.Sequential(
            nn.Conv2d(3, 16, 3, stride=2, padding=1),
            nn.BatchNorm2d(16),
            nn.ReLU(),
            nn.Conv2d(16, 32, 3, stride=2, padding=1),
            nn.BatchNorm2d(32),
            nn.ReLU(),
            nn.AdaptiveAvgPool2d(2),
            nn.Flatten(),
            nn.Dropout(0.1),
            nn.Linear(128, 64),
        )


def tinier() -> nn.Module:
    """Return another: (B, 3, H, W) -> (B, 16) features, for studies of several backbones."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        return nn.Sequential(nn.Conv2d(3, 16, 3, stride=2, padding=1), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten())
