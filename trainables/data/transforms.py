"""From a decoded image to what a network sees: the weights' own transform, cut where its pixels are still bytes."""

import functools

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn.functional import affine_grid, grid_sample

from trainables.config import Geometry
from trainables.vision import InterpolationMode
from trainables.vision import transforms as tv

SMALLEST_CROP = 0.35
"""Least share of the image's area in a random crop. ImageNet's 0.08 is for training from scratch over hundreds of
epochs; fine-tuning for 10 to 50 epochs wants the object still in the picture."""
CROP_RATIO = (3 / 4, 4 / 3)
"""Width by height of a random crop, as in torchvision's RandomResizedCrop."""


def shrink(image: Image.Image, geometry: Geometry) -> np.ndarray:
    """Return the image resized and cropped, (3, crop, crop) uint8.

    `normalise` of it equals torchvision's ``weights.transforms()(image)`` bit for bit, because torchvision too resizes
    a PIL image in bytes.
    """
    resized = tv.resize(image, [geometry.resize], InterpolationMode(geometry.interpolation), antialias=True)
    pixels: np.ndarray = tv.pil_to_tensor(tv.center_crop(resized, [geometry.crop])).numpy()
    return pixels


def normalise(images: Tensor, geometry: Geometry) -> Tensor:
    """Return (B, 3, S, S) uint8 images as float32 in the range that the weights were trained on."""
    return standardise(images.to(torch.float32).div_(255), geometry)


def standardise(images: Tensor, geometry: Geometry) -> Tensor:
    """Bring (B, 3, S, S) float32 images in [0, 1], in place, into the range that the weights were trained on."""
    mean, std = _constants(geometry, images.device)
    # torchvision's own function looks at the deviations' values, for which a GPU would have to be waited for.
    return images.sub_(mean).div_(std)


@functools.lru_cache(maxsize=8)
def _constants(geometry: Geometry, device: torch.device) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation by channel, (3, 1, 1) float32."""
    with torch.inference_mode(mode=False):
        mean, std = (torch.tensor(values, device=device).view(-1, 1, 1) for values in (geometry.mean, geometry.std))
    return mean, std


def augment(images: Tensor, seed: int) -> Tensor:
    """Return each of (B, 3, S, S) uint8 images randomly cropped, resized back and flipped, as uint8.

    The crop's area is `SMALLEST_CROP` to 1 of the image's, its ratio within `CROP_RATIO`; half of the images are
    flipped left to right. `seed` decides all of it, the same on every device.
    """
    size = len(images)
    generator = torch.Generator().manual_seed(seed)
    area, ratio, across, down, flip = torch.rand(5, size, generator=generator)
    share = SMALLEST_CROP + (1 - SMALLEST_CROP) * area
    low, high = np.log(CROP_RATIO[0]), np.log(CROP_RATIO[1])
    root = torch.exp(0.5 * (low + (high - low) * ratio))
    width = (share.sqrt() * root).clamp(max=1)
    height = (share.sqrt() / root).clamp(max=1)
    theta = torch.zeros(size, 2, 3)
    theta[:, 0, 0] = width * torch.where(flip < 0.5, -1.0, 1.0)
    theta[:, 1, 1] = height
    # In grid_sample's coordinates the image spans -1..1, so a crop's centre may move by what it leaves free.
    theta[:, 0, 2] = (1 - width) * (2 * across - 1)
    theta[:, 1, 2] = (1 - height) * (2 * down - 1)
    grid = affine_grid(theta.to(images.device), list(images.shape), align_corners=False)
    sampled = grid_sample(images.float(), grid, mode="bilinear", padding_mode="border", align_corners=False)
    return sampled.round().clamp(0, 255).to(torch.uint8)
