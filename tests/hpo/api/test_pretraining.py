"""What the options of a pretraining mean together."""

from pathlib import Path
from typing import Any

import pytest

from hpo.api.pretraining import PretrainImages, PretrainOptions, config_of
from hpo.spec import split_seeds
from trainables.contrastive.config import PretrainConfig
from trainables.errors import InputError


def config(images: dict[str, Any] | None = None, **options: Any) -> PretrainConfig:
    return config_of(
        "resnet18", PretrainImages(**{"dataset": "digits", **(images or {})}), PretrainOptions(**options), 3
    )


def test_small_images_have_a_small_stem_and_no_blur() -> None:
    small, large = config(), config({"dataset": "pets"})

    assert (small.backbone, small.image_size, small.views.blur) == ("small:resnet18", 32, 0)
    assert (large.backbone, large.image_size, large.views.blur) == ("torchvision:resnet18", 224, 0.5)
    assert config(stem="imagenet").backbone == "torchvision:resnet18"
    assert config({"dataset": "pets"}, stem="small").backbone == "small:resnet18"
    assert config({"blur": 0.3}).views.blur == 0.3


def test_the_rate_and_how_it_grows_are_the_optimisers() -> None:
    lars, adam = config(optimizer="lars", batch_size=1024), config(optimizer="adam", batch_size=1024)

    assert lars.peak_learning_rate == pytest.approx(0.3 * 4)
    assert adam.peak_learning_rate == pytest.approx(1e-3 * 2)
    assert config(optimizer="lars", learning_rate=0.075, scaling="sqrt").peak_learning_rate == pytest.approx(0.075)


def test_warm_up_takes_at_most_half_of_the_epochs() -> None:
    assert config(epochs=10).warmup_epochs == 5
    assert config(epochs=100).warmup_epochs == 10


def test_images_are_divided_as_in_a_study_of_the_same_seed(tmp_path: Path) -> None:
    made = config({"dataset": f"imagefolder:{tmp_path}"})

    assert made.data.split_seeds == split_seeds(3)
    assert (made.data.exif, made.data.layouts, made.seed) == ("turn", "recognised", 3)
    assert config().data.exif == "ignore"


@pytest.mark.parametrize(
    ("images", "options", "words"),
    [
        ({}, {"temperature": 0.0}, "--temperature must be above 0, but is 0.0"),
        ({}, {"learning_rate": -1.0}, "--learning-rate must be above 0, but is -1.0"),
        ({"min_crop": 1.5}, {}, "--min-crop must be above 0 and at most 1, but is 1.5"),
    ],
)
def test_values_out_of_range_are_named(images: dict[str, Any], options: dict[str, Any], words: str) -> None:
    with pytest.raises(InputError, match=words):
        config(images, **options)
