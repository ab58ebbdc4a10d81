"""A user's own backbone that fills a card."""

import torch
from torch import nn


def wide() -> nn.Module:
    """Return (B, 3, H, W) -> (B, 64) features, without batch norm or dropout: an image's loss is its own.

    At 224 px in float32 an image's activation takes 12 MiB, three times that in the backward pass.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return nn.Sequential(nn.Conv2d(3, 64, 3, padding=1), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten())
