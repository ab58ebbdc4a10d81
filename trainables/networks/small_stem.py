"""ResNets for small images, ``small:NAME``: torchvision's, with another first layer and no pooling behind it.

Chen et al. 2020, appendix B.9, for CIFAR-10: the first convolution is 3x3 with stride 1, and the first max pooling is
left out, so that a 32-px image does not shrink to 8 px before the first block. All else is torchvision's, names too.
"""

from torch import nn

from trainables.config import Geometry
from trainables.vision import models

PREFIX = "small:"
_SUFFIX = "-small"

SMALL = Geometry(resize=32, crop=32, interpolation="bilinear", mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))
"""The transform of such a network without weights."""


def small_name(architecture: str) -> str:
    """Return the name of the small-image network of one of torchvision's ResNets."""
    return f"{architecture}{_SUFFIX}"


def is_small(architecture: str) -> bool:
    """Return whether an architecture's name is one of a small-image network."""
    return architecture.endswith(_SUFFIX)


def torchvisions_name(architecture: str) -> str:
    """Return torchvision's name of the network that an architecture is, or was made of."""
    return architecture.removesuffix(_SUFFIX)


def resnets() -> list[str]:
    """Return torchvision's names of its ResNets."""
    return [name for name in models.list_models(module=models) if name.startswith(("resnet", "resnext", "wide_resnet"))]


def get_model(architecture: str, **arguments: object) -> nn.Module:
    """Build one of torchvision's networks, or the small-image network of one of its ResNets, without weights."""
    model: nn.Module = models.get_model(torchvisions_name(architecture), weights=None, **arguments)
    if is_small(architecture):
        stem = model.get_submodule("conv1")
        assert isinstance(stem, nn.Conv2d)
        own = nn.Conv2d(3, stem.out_channels, kernel_size=3, stride=1, padding=1, bias=False)
        # As torchvision initialises the convolutions of its ResNets.
        nn.init.kaiming_normal_(own.weight, mode="fan_out", nonlinearity="relu")
        model.set_submodule("conv1", own)
        model.set_submodule("maxpool", nn.Identity())
    return model
