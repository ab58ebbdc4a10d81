"""The last lines of `hpo pretrain`: a study that divides the images as the pretraining did."""

from pathlib import Path
from typing import Any

import pytest

from hpo.api.pretraining import PretrainImages, PretrainMachineOptions, PretrainOptions, config_of
from hpo.cli.pretrain import _words
from hpo.pretrain.run import Pretrained
from trainables.contrastive.config import PretrainEpoch

LAST = PretrainEpoch(
    epoch=1,
    loss=1.0,
    top1=0.5,
    alignment=1.0,
    uniformity=-1.0,
    learning_rate=0.1,
    seconds=1.0,
    images_per_second=1.0,
    knn_accuracy=0.5,
)


@pytest.mark.parametrize(
    ("images", "machine", "seed", "options"),
    [
        ({}, {}, 0, ""),
        ({}, {}, 3, " --seed 3"),
        (
            {"val_fraction": 0.1, "exif": "turn"},
            {"data_dir": "d"},
            0,
            " --val-fraction 0.1 --exif turn --data-dir d",
        ),
        ({"deduplicate": True, "skip_bad_images": True}, {}, 0, " --deduplicate --skip-bad-images"),
    ],
)
def test_the_study_divides_the_images_alike(
    images: dict[str, Any],
    machine: dict[str, Any],
    seed: int,
    options: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    asked = PretrainImages(dataset="digits", **images)
    made = Pretrained(tmp_path / "e.safetensors", config_of("resnet18", asked, PretrainOptions(), seed), LAST, 0.4)

    last = _words(made, asked, PretrainMachineOptions(**machine)).splitlines()[-1]

    assert last == (
        f"use it: hpo run --backbone small:resnet18 --weights e.safetensors --dataset digits{options} --trials 20"
    )
