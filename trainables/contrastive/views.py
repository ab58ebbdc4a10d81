"""Random views of whole batches of images on their device: crop, flip, colour jitter, greyscale, blur.

What is drawn is drawn for each image alone (the order of the jitter's four parts for each batch), on the CPU, from the
seed, the epoch and the step: the same on every device, and in a pretraining that was interrupted.
"""

import itertools
import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import affine_grid, conv2d, grid_sample, pad

from trainables.contrastive.config import ViewConfig
from trainables.data.transforms import CROP_RATIO

_TRIES = 10
"""How often a crop is drawn that fits into the image, as in torchvision's RandomResizedCrop."""
_JITTERED = 0.8
_GREY = 0.2
"""Shares of the views that are (Chen et al. 2020, appendix A)."""
_SIGMA = (0.1, 2.0)
"""Range of a blur's deviation, in pixels (ibid.)."""
_LUMA = (0.2989, 0.587, 0.114)
"""ITU-R 601-2, with torchvision's digits."""
_ORDERS = tuple(itertools.permutations(range(4)))


@dataclass(frozen=True)
class Drawn:
    """How one view of each of B images is made; tensors on the CPU."""

    theta: Tensor
    """(B, 2, 3) float32: the crop and flip, as torch's `affine_grid` takes them."""
    brightness: Tensor
    contrast: Tensor
    saturation: Tensor
    """(B,) float32 factors."""
    hue: Tensor
    """(B,) float32 shifts, in turns."""
    order: tuple[int, ...]
    """In which order brightness, contrast, saturation and hue change."""
    grey: Tensor
    """(B,) bool."""
    sigma: Tensor
    """(B,) float32, of the blur, in pixels; 0: none."""

    def part(self, images: slice) -> "Drawn":
        """Return what was drawn for some of the images."""
        fields = {name: value[images] for name, value in vars(self).items() if isinstance(value, Tensor)}
        return Drawn(**fields, order=self.order)


def draw(config: ViewConfig, images: int, generator: torch.Generator) -> Drawn:
    """Draw how one view of each of `images` images is made."""
    jittered = _uniform(images, generator) < _JITTERED

    def factors(most: float, centre: float) -> Tensor:
        low = max(0.0, centre - most) if centre else -most
        drawn = low + (centre + most - low) * _uniform(images, generator)
        return torch.where(jittered, drawn, centre)

    theta = _crops(config, images, generator)
    return Drawn(
        theta=theta,
        brightness=factors(0.8 * config.strength, 1.0),
        contrast=factors(0.8 * config.strength, 1.0),
        saturation=factors(0.8 * config.strength, 1.0),
        hue=factors(min(0.2 * config.strength, 0.5), 0.0),
        order=_ORDERS[int(torch.randint(len(_ORDERS), (), generator=generator))],
        grey=_uniform(images, generator) < _GREY,
        sigma=torch.where(
            _uniform(images, generator) < config.blur,
            _SIGMA[0] + (_SIGMA[1] - _SIGMA[0]) * _uniform(images, generator),
            0.0,
        ),
    )


def view(pixels: Tensor, drawn: Drawn, size: int) -> Tensor:
    """Return the views of (B, 3, R, R) uint8 images, (B, 3, size, size) float32 in [0, 1], on their device."""
    device = pixels.device

    def moved(values: Tensor) -> Tensor:
        return values.view(-1, 1, 1, 1).to(device, non_blocking=True)

    grid = affine_grid(drawn.theta.to(device), [len(pixels), 3, size, size], align_corners=False)
    images = pixels.to(torch.float32).div_(255)
    images = grid_sample(images, grid, mode="bilinear", padding_mode="border", align_corners=False)
    if bool((drawn.brightness != 1).any()):
        parts = (
            lambda shown: _blend(shown, None, moved(drawn.brightness)),
            lambda shown: _blend(shown, _grey(shown).mean(dim=(1, 2, 3), keepdim=True), moved(drawn.contrast)),
            lambda shown: _blend(shown, _grey(shown), moved(drawn.saturation)),
            lambda shown: shift_hue(shown, moved(drawn.hue)),
        )
        for part in drawn.order:
            images = parts[part](images)
    images = torch.where(moved(drawn.grey), _grey(images), images)
    blurred = drawn.sigma.nonzero()[:, 0]
    if len(blurred):
        chosen = blurred.to(device)
        images[chosen] = blur(images[chosen], drawn.sigma[blurred].to(device))
    return images


def shift_hue(images: Tensor, turns: Tensor) -> Tensor:
    """Return (B, 3, H, W) images in [0, 1] with their hues shifted by (B, 1, 1, 1) `turns` of the colour circle."""
    red, green, blue = images[:, :1], images[:, 1:2], images[:, 2:]
    value = images.amax(1, keepdim=True)
    chroma = value - images.amin(1, keepdim=True)
    by = chroma.clamp(min=1e-12)
    hue = torch.where(
        value == red, (green - blue) / by, torch.where(value == green, 2 + (blue - red) / by, 4 + (red - green) / by)
    )
    # HSV to RGB in closed form: https://en.wikipedia.org/wiki/HSL_and_HSV#HSV_to_RGB_alternative
    start = torch.tensor([5.0, 3.0, 1.0], device=images.device).view(1, 3, 1, 1)
    place = (start + (hue + 6 * turns)).remainder_(6)
    return value - chroma * torch.minimum(place, 4 - place).clamp_(0, 1)


def blur(images: Tensor, sigma: Tensor) -> Tensor:
    """Return (B, C, S, S) images blurred by Gaussians of (B,) deviations, whose kernel is a tenth of the side wide."""
    batch, channels, side, _ = images.shape
    reach = min(max(1, side // 20), side - 1)
    offsets = torch.arange(-reach, reach + 1, device=images.device, dtype=images.dtype)
    kernel = torch.exp(-0.5 * (offsets / sigma[:, None]) ** 2)
    kernel = (kernel / kernel.sum(dim=1, keepdim=True)).repeat_interleave(channels, dim=0)[:, None]
    flat = pad(images, (reach,) * 4, mode="reflect").reshape(1, batch * channels, side + 2 * reach, side + 2 * reach)
    across = conv2d(flat, kernel[:, :, None, :], groups=batch * channels)
    return conv2d(across, kernel[:, :, :, None], groups=batch * channels).view_as(images)


def _crops(config: ViewConfig, images: int, generator: torch.Generator) -> Tensor:
    """Random crops as in torchvision's RandomResizedCrop, at places between pixels; where none fits, the image."""
    area, ratio = torch.rand(2, _TRIES, images, generator=generator)
    across, down, flip = torch.rand(3, images, generator=generator)
    share = config.min_area + (1 - config.min_area) * area
    low, high = math.log(CROP_RATIO[0]), math.log(CROP_RATIO[1])
    root = torch.exp(0.5 * (low + (high - low) * ratio))
    width, height = share.sqrt() * root, share.sqrt() / root
    fits = (width <= 1) & (height <= 1)
    first = fits.int().argmax(dim=0, keepdim=True)
    width, height = (
        torch.where(fits.any(dim=0), side.gather(0, first)[0], torch.ones(images)) for side in (width, height)
    )
    theta = torch.zeros(images, 2, 3)
    theta[:, 0, 0] = torch.where(flip < 0.5, -width, width) if config.flip else width
    theta[:, 1, 1] = height
    # In grid_sample's coordinates the image spans -1..1, so a crop's centre may move by what it leaves free.
    theta[:, 0, 2] = (1 - width) * (2 * across - 1)
    theta[:, 1, 2] = (1 - height) * (2 * down - 1)
    return theta


def _uniform(images: int, generator: torch.Generator) -> Tensor:
    return torch.rand(images, generator=generator)


def _grey(images: Tensor) -> Tensor:
    return _LUMA[0] * images[:, :1] + _LUMA[1] * images[:, 1:2] + _LUMA[2] * images[:, 2:]


def _blend(images: Tensor, other: Tensor | None, factor: Tensor) -> Tensor:
    """Mix images with others by `factor`, which may be above 1; None: with black."""
    mixed = images * factor if other is None else other + factor * (images - other)
    return mixed.clamp_(0, 1)
