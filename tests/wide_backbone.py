"""A user's own backbone, thin on a CPU and wide on a card: placement by memory can be tested without one."""

import torch
from torch import Tensor, nn

from tests.tiny_backbone import tinier

_BYTES_PER_IMAGE = 300 * 2**20
"""What a training step would keep of each image on a card."""


class _Wide(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.inner = tinier()

    def forward(self, images: Tensor) -> Tensor:
        features: Tensor = self.inner(images)
        if features.is_meta and torch.is_grad_enabled():
            # What training on a card would need is asked on the meta device, where width costs nothing.
            width = _BYTES_PER_IMAGE // features.element_size() // features.shape[1] // 3
            wide = features.unsqueeze(2) * torch.ones(width, device="meta")
            return features + wide.exp().mean(dim=2)
        return features


def wide() -> nn.Module:
    """Return (B, 3, H, W) -> (B, 16) features."""
    return _Wide()
