"""What the options of a pretraining mean together."""

import dataclasses
import math
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from hpo.api.pretraining import (
    PretrainImages,
    PretrainMachineOptions,
    PretrainOptions,
    config_of,
    looked_up,
    machine_of,
    pretrain,
)
from hpo.errors import UsageError
from hpo.spec import split_seeds
from tests import pretraining as small
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


def test_views_of_small_images_differ_less() -> None:
    small, large = config(), config({"dataset": "pets"})

    assert (small.views.min_area, small.views.strength) == (0.5, 0.5)
    assert (large.views.min_area, large.views.strength) == (0.08, 1.0)
    asked = config({"min_crop": 0.1, "strength": 0.0})
    assert (asked.views.min_area, asked.views.strength) == (0.1, 0.0)


def test_warm_up_takes_a_tenth_of_the_epochs_or_what_is_asked_for_up_to_half_of_them() -> None:
    assert config(epochs=5).warmup_epochs == 0.5
    assert config(epochs=1000).warmup_epochs == 10
    assert config(epochs=10, warmup_epochs=20).warmup_epochs == 5
    assert config(epochs=10, warmup_epochs=0).warmup_epochs == 0


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
        ({"strength": math.nan}, {}, "--strength must be a finite number, but is nan"),
        ({"blur": math.nan}, {}, "--blur must be a finite number, but is nan"),
        ({}, {"warmup_epochs": math.nan}, "--warmup-epochs must be a finite number, but is nan"),
        ({}, {"weight_decay": math.inf}, "--weight-decay must be a finite number, but is inf"),
    ],
)
def test_values_out_of_range_are_named(images: dict[str, Any], options: dict[str, Any], words: str) -> None:
    with pytest.raises(InputError, match=words):
        config(images, **options)


@pytest.mark.parametrize(
    ("arch", "words"),
    [
        ("resnet81", r"--arch resnet81: did you mean resnet\d+\? SimCLR pretrains"),
        ("small:resnet18", r"--arch small:resnet18: did you mean resnet18\?"),
    ],
)
def test_an_unknown_arch_is_refused_before_the_images_are_opened(arch: str, words: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=words):
        pretrain(
            arch,
            images=PretrainImages(dataset=f"imagefolder:{tmp_path / 'nowhere'}"),
            options=PretrainOptions(),
            machine=PretrainMachineOptions(),
        )


@pytest.mark.parametrize(("cards", "expected"), [(0, 1), (1, 1), (2, 2), (3, 2), (5, 4), (7, 4), (8, 8)])
def test_as_many_processes_as_cards_share_the_usual_batch(
    cards: int, expected: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: cards)

    assert machine_of(PretrainMachineOptions(), config()).processes == expected


@pytest.mark.parametrize(
    ("machine", "options", "words"),
    [
        ({"processes": 3}, {}, "--batch-size 256: it must be a multiple of the 3 processes"),
        ({"processes": 2}, {"batch_size": 2}, "--batch-size 2: .* each needs two images"),
        ({}, {"precision": "fp16"}, "--precision fp16 needs a GPU"),
    ],
)
def test_what_the_machine_cannot_do_is_said_before_the_images_are_opened(
    machine: dict[str, Any], options: dict[str, Any], words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)

    with pytest.raises(InputError, match=words):
        machine_of(PretrainMachineOptions(**machine), config(**options))


def test_bad_images_and_copies_are_left_out_as_in_a_study(tmp_path: Path) -> None:
    folder = small.write_images(tmp_path / "images")
    shutil.copy(folder / "red" / "05.png", folder / "blue" / "copy.png")
    (folder / "blue" / "torn.png").write_bytes((folder / "blue" / "00.png").read_bytes()[:100])
    asked, machine = small.config(folder), small.machine(folder)

    with pytest.raises(UsageError, match=r"torn\.png.*--skip-bad-images leaves such images out"):
        looked_up(asked, machine, skip_bad=False)
    skipped = looked_up(asked, machine, skip_bad=True).data
    alone = dataclasses.replace(asked, data=dataclasses.replace(asked.data, deduplicate=True))
    both = looked_up(alone, machine, skip_bad=True).data

    assert skipped.skipped_images == ("train/blue/torn.png",)
    assert len(both.skipped_images) == 2
    assert both.train_sha256 == skipped.train_sha256 is not None


def test_more_images_per_batch_than_there_are_is_said_before_they_are_decoded(tmp_path: Path) -> None:
    folder = small.write_images(tmp_path / "images")

    with pytest.raises(InputError, match="has 24 images"):
        looked_up(small.config(folder, batch_size=25), small.machine(folder), skip_bad=False)

    assert not (tmp_path / "data").exists()
