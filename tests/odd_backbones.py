"""A backbone of a user's own that trains and predicts well, and that other formats cannot hold."""

from torch import Tensor, nn

from tests.tiny_backbone import tinier


class _Looking(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.inner = tinier()

    def forward(self, images: Tensor) -> Tensor:
        features: Tensor = self.inner(images)
        return features * (1 + float(images.detach().mean()))


def looking() -> nn.Module:
    """Takes a number out of its images, which a trace takes for a constant and torch.export refuses."""
    return _Looking()
