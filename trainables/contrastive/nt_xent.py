"""NT-Xent, the loss of SimCLR, and what else the similarities of a batch say of its embeddings."""

import math

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy, normalize


def nt_xent(projections: Tensor, temperature: float) -> Tensor:
    """Return the normalised temperature-scaled cross-entropy loss (Chen et al. 2020, Algorithm 1), a scalar in nats.

    Args:
        projections: (2, B, D): of each of B images, at least 2, its two views; of any length.
        temperature: Above 0.
    """
    return contrast(similarities(projections), temperature)


def similarities(projections: Tensor) -> Tensor:
    """Return the cosine similarity of each view with each, (2B, 2B): the first views of all images, then the second."""
    unit = normalize(projections.flatten(0, 1), dim=1)
    return unit @ unit.T


def contrast(similar: Tensor, temperature: float) -> Tensor:
    """Return NT-Xent of what `similarities` gave."""
    return cross_entropy(_others(similar) / temperature, _partners(similar))


def contrastive_top1(similar: Tensor) -> Tensor:
    """Return the share of views to which, of all others, the other view of their image is the most similar."""
    return (_others(similar).argmax(dim=1) == _partners(similar)).float().mean()


def alignment(similar: Tensor) -> Tensor:
    """Return the mean squared distance of the two views of an image on the unit sphere (Wang & Isola 2020, alpha 2)."""
    images = len(similar) // 2
    return (2 - 2 * similar[:images, images:].diagonal()).mean()


def uniformity(similar: Tensor) -> Tensor:
    """Return the log of the mean Gaussian potential of pairs of images' first views (Wang & Isola 2020, t 2)."""
    images = len(similar) // 2
    squared = 2 - 2 * similar[:images, :images]
    pairs = squared[torch.ones_like(squared, dtype=torch.bool).triu(diagonal=1)]
    return torch.logsumexp(-2 * pairs, dim=0) - math.log(len(pairs))


def _others(similar: Tensor) -> Tensor:
    """No view is compared with itself."""
    return similar.masked_fill(torch.eye(len(similar), dtype=torch.bool, device=similar.device), -math.inf)


def _partners(similar: Tensor) -> Tensor:
    return torch.arange(len(similar), device=similar.device).roll(len(similar) // 2)
