"""Views of whole batches against torchvision's own, image by image."""

import dataclasses

import numpy as np
import pytest
import torch
from torchvision.transforms.v2 import functional as tv

from trainables.contrastive.config import ViewConfig
from trainables.contrastive.views import Drawn, blur, draw, shift_hue, view

IMAGES = 6


def pixels(side: int = 24, images: int = IMAGES) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(0).integers(0, 256, (images, 3, side, side), np.uint8))


def whole(**changes: object) -> Drawn:
    """What leaves images as they are, but for `changes`."""
    one = torch.ones(IMAGES)
    theta = torch.eye(2, 3).repeat(IMAGES, 1, 1)
    plain = Drawn(theta, one, one, one, 0 * one, (0, 1, 2, 3), torch.zeros(IMAGES, dtype=torch.bool), 0 * one)
    return dataclasses.replace(plain, **changes)  # type: ignore[arg-type]


def test_an_image_that_nothing_is_done_to_stays() -> None:
    assert torch.allclose(view(pixels(), whole(), 24), pixels() / 255, atol=1e-5)


def test_crops_and_flips_cut_what_they_say() -> None:
    # Of 24 px: the left half of the width, the lower half of the height, mirrored.
    theta = torch.tensor([[-0.5, 0.0, -0.5], [0.0, 0.5, 0.5]]).repeat(IMAGES, 1, 1)

    shown = view(pixels(), whole(theta=theta), 12)

    assert torch.allclose(shown, (pixels() / 255)[:, :, 12:, :12].flip(3), atol=1e-5)


def test_colours_change_as_torchvision_changes_them_in_any_order() -> None:
    generator = torch.Generator().manual_seed(0)
    seen = set()
    for _ in range(12):
        drawn = dataclasses.replace(draw(ViewConfig(blur=0), IMAGES, generator), theta=whole().theta)

        shown = view(pixels(), drawn, 24)

        for i in range(IMAGES):
            expected = pixels()[i] / 255
            for part in drawn.order:
                adjust = (tv.adjust_brightness, tv.adjust_contrast, tv.adjust_saturation, tv.adjust_hue)[part]
                by = (drawn.brightness, drawn.contrast, drawn.saturation, drawn.hue)[part]
                expected = adjust(expected, float(by[i]))
            if drawn.grey[i]:
                expected = tv.rgb_to_grayscale(expected, 3)
            assert torch.allclose(shown[i], expected, atol=2e-5)
        seen.add(drawn.order)
    assert len(seen) > 4


@pytest.mark.parametrize("turns", [-0.5, -0.1, 0.0, 0.3, 0.5])
def test_hue_shifts_greys_and_full_colours_as_torchvision_does(turns: float) -> None:
    corners = torch.cartesian_prod(*[torch.tensor([0.0, 0.5, 1.0])] * 3).T.reshape(1, 3, 27, 1)

    shifted = shift_hue(corners, torch.full((1, 1, 1, 1), turns))

    assert torch.allclose(shifted, tv.adjust_hue(corners, turns), atol=1e-5)


@pytest.mark.parametrize(("side", "kernel"), [(24, 3), (96, 9), (224, 23)])
def test_a_blur_is_torchvisions(side: int, kernel: int) -> None:
    images, sigma = pixels(side, 2) / 255, torch.tensor([0.3, 1.7])

    blurred = blur(images, sigma)

    for i in range(2):
        assert torch.allclose(blurred[i], tv.gaussian_blur(images[i], [kernel] * 2, [float(sigma[i])]), atol=1e-5)


def test_only_the_views_that_were_drawn_are_blurred() -> None:
    sigma = torch.tensor([0.0, 1.5, 0.0, 0.0, 0.7, 0.0])

    shown = view(pixels(), whole(sigma=sigma), 24)

    unchanged = [torch.allclose(shown[i], pixels()[i] / 255, atol=1e-5) for i in range(IMAGES)]
    assert unchanged == (sigma == 0).tolist()


def test_what_is_drawn_has_the_papers_shares_and_ranges() -> None:
    many = 20_000
    drawn = draw(ViewConfig(), many, torch.Generator().manual_seed(1))
    calm = draw(ViewConfig(strength=0, flip=False, blur=0, min_area=1.0), many, torch.Generator().manual_seed(1))

    width, height = drawn.theta[:, 0, 0].abs(), drawn.theta[:, 1, 1]
    assert 0.07 < float((width * height).min()) < 0.1
    assert float((width / height).max()) == pytest.approx(4 / 3, abs=0.01)
    assert float((drawn.theta[:, 0, 0] < 0).float().mean()) == pytest.approx(0.5, abs=0.02)
    assert float((drawn.brightness == 1).float().mean()) == pytest.approx(0.2, abs=0.02)
    assert (float(drawn.contrast.min()), float(drawn.contrast.max())) == pytest.approx((0.2, 1.8), abs=0.01)
    assert float(drawn.hue.abs().max()) == pytest.approx(0.2, abs=0.01)
    assert float(drawn.grey.float().mean()) == pytest.approx(0.2, abs=0.02)
    assert float((drawn.sigma > 0).float().mean()) == pytest.approx(0.5, abs=0.02)
    # A crop never leaves the image.
    assert float((drawn.theta[:, :, 2].abs() + torch.stack([width, height], 1)).max()) <= 1 + 1e-5
    assert not (calm.theta[:, 0, 0] < 0).any()
    assert (calm.brightness == 1).all()
    assert not calm.sigma.any()


def test_parts_of_a_batch_are_shown_as_in_the_whole() -> None:
    drawn = draw(ViewConfig(), IMAGES, torch.Generator().manual_seed(2))
    parts = [slice(0, 2), slice(2, 5), slice(5, 6)]

    shown = torch.cat([view(pixels()[part], drawn.part(part), 16) for part in parts])

    assert torch.allclose(shown, view(pixels(), drawn, 16), atol=1e-6)
