"""What is pretrained: a ResNet without its classifier, below a projection head that is dropped afterwards."""

import difflib

import torch
from torch import Tensor, nn

from trainables.contrastive.processes import Processes
from trainables.errors import InputError
from trainables.networks.identity import architecture_of
from trainables.networks.small_stem import get_model, resnets


class SimCLR(nn.Module):
    """An encoder f and a projection head g (Chen et al. 2020, figure 2)."""

    def __init__(self, encoder: nn.Module, head: nn.Module) -> None:
        super().__init__()
        self.encoder = encoder
        self.head = head

    def forward(self, images: Tensor) -> Tensor:
        """Return the (B, P) projections z of (B, 3, S, S) normalised images."""
        projections: Tensor = self.head(self.encoder(images))
        return projections


def check_arch(arch: str) -> None:
    """See that `arch` can be pretrained.

    Raises:
        InputError: It is none of torchvision's names of its ResNets; the message suggests the nearest.
    """
    known = resnets()
    if arch not in known:
        near = difflib.get_close_matches(arch, known, n=1)
        hint = f"did you mean {near[0]}? " if near else ""
        raise InputError(f"--arch {arch}: {hint}SimCLR pretrains torchvision's ResNets: {', '.join(known)}.")


def new_network(backbone: str, projection: int, seed: int, processes: Processes) -> SimCLR:
    """Build a network with random values, which `seed` alone decides, for `processes` that share each batch.

    The head is that of the paper's published code: Linear, batch norm, ReLU, Linear, batch norm, as wide as the
    features in the middle (google-research/simclr, model_util.py).

    Raises:
        InputError: The backbone is none of torchvision's ResNets.
    """
    check_arch(backbone.partition(":")[2])
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        encoder = get_model(architecture_of(backbone))
        classifier = encoder.get_submodule("fc")
        assert isinstance(classifier, nn.Linear)
        width = classifier.in_features
        encoder.set_submodule("fc", nn.Identity())
        head = nn.Sequential(
            nn.Linear(width, width),
            nn.BatchNorm1d(width),
            nn.ReLU(),
            nn.Linear(width, projection, bias=False),
            nn.BatchNorm1d(projection),
        )
    # Faster on CPUs and cards (benchmarks/precision.py).
    network = SimCLR(encoder, head).to(memory_format=torch.channels_last)
    processes.share_statistics(network)
    return network
