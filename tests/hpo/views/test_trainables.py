"""What a study of pretrainings ends with."""

import shlex
from typing import Any

import pytest

from hpo.spec import SearchConfig, StudySpec
from hpo.views.trainables import pretrain_command
from trainables.config import DataConfig, ModelConfig


@pytest.mark.parametrize(
    ("data", "data_dir", "more"),
    [
        ({}, None, []),
        ({"deduplicate": True}, "my data", ["--data-dir", "my data", "--deduplicate"]),
        ({"skipped_images": ("train/a/1.jpg",)}, None, ["--skip-bad-images"]),
    ],
)
def test_the_command_takes_the_images_of_the_study(data: dict[str, Any], data_dir: str | None, more: list[str]) -> None:
    spec = StudySpec(
        data=DataConfig(dataset="pets", **data),
        model=ModelConfig(backbone="small:resnet18", image_size=32),
        search=SearchConfig(space={}),
        seed=2,
        trainable="simclr-pretrain",
    )

    words = shlex.split(pretrain_command(spec, {"flip": False}, data_dir))

    plain = "hpo pretrain --arch resnet18 --dataset pets --image-size 32 --stem small --no-flip --seed 2"
    assert words == [*plain.split(), *more]
