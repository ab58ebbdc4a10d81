"""A study's finding about an encoder that has seen the images which judge."""

import dataclasses
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file

from hpo.spec import RunOptions, split_seeds
from hpo.studies.preflight import findings
from tests import pretraining as small
from trainables.config import DataConfig
from trainables.contrastive.pretraining import PRETRAINING_KEY
from trainables.data.datasets import training_images
from trainables.data.folders import listed
from trainables.data.splits import split


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return small.write_images(tmp_path / "images")


def data_of(folder: Path, seed: int = 0, **changes: Any) -> DataConfig:
    plain = DataConfig(dataset=f"imagefolder:{folder}", layouts="recognised", split_seeds=split_seeds(seed))
    return dataclasses.replace(plain, train_sha256=training_images(plain).content_sha256, **changes)


def encoder(path: Path, data: DataConfig, seed: int) -> Path:
    config = dataclasses.asdict(small.config(path, data=data, seed=seed))
    save_file({"conv1.weight": np.zeros(1, np.float32)}, path, {PRETRAINING_KEY: json.dumps(config)})
    return path


def said(data: DataConfig, weights: Path | str) -> list[str]:
    images, found = training_images(data), listed(data) if ":" in data.dataset else None
    lines = findings(data, found, images, split(images, data), RunOptions(trials=1), weights=str(weights))
    return [line for line in lines if "--weights" in line]


def test_another_seed_divides_other_images_off(folder: Path, tmp_path: Path) -> None:
    weights = encoder(tmp_path / "e.safetensors", data_of(folder, 3), 3)

    (line,) = said(data_of(folder, 0), weights)

    assert line.startswith(f"--weights {weights}: its encoder was pretrained on ")
    assert " of the 8 images to validate with and " in line
    assert " of the 8 to test with; accuracies are too high by that" in line
    assert "--seed 3 --val-fraction 0.25" in line


def test_nothing_is_said_where_images_are_divided_alike_or_are_others(folder: Path, tmp_path: Path) -> None:
    weights = encoder(tmp_path / "e.safetensors", data_of(folder, 3), 3)
    other = small.write_images(tmp_path / "other")
    (other / "red" / "00.png").rename(other / "red" / "first.png")

    assert not said(data_of(folder, 3), weights)
    assert not said(data_of(folder, 3, label_fraction=0.5), weights)
    assert not said(data_of(other, 0), weights)
    assert not said(data_of(folder, 0), "none")


def test_a_folder_that_was_moved_is_the_same(folder: Path, tmp_path: Path) -> None:
    weights = encoder(tmp_path / "e.safetensors", data_of(folder, 3), 3)

    moved = Path(shutil.move(folder, tmp_path / "moved"))

    assert len(said(data_of(moved, 0), weights)) == 1
    assert not said(data_of(moved, 3), weights)


def test_images_that_changed_since_may_have_been_seen(folder: Path, tmp_path: Path) -> None:
    weights = encoder(tmp_path / "e.safetensors", data_of(folder), 0)
    (folder / "red" / "00.png").rename(folder / "red" / "first.png")

    (line,) = said(data_of(folder), weights)

    assert "have changed since its encoder was pretrained on them" in line


def test_images_without_files_are_known_by_their_numbers(tmp_path: Path) -> None:
    digits = DataConfig(dataset="digits", split_seeds=split_seeds(3))
    weights = encoder(tmp_path / "e.safetensors", digits, 3)

    (line,) = said(dataclasses.replace(digits, val_fraction=0.5), weights)

    assert " and 0 of the 360 to test with" in line
    assert not said(digits, weights)
