"""Copies across splits: found by their bytes, and kept on the side that judges."""

import shutil
from pathlib import Path

import pytest
from PIL import Image

from hpo.errors import UsageError
from hpo.spec import RunOptions
from hpo.studies.preflight import deduplicated, findings
from trainables.config import DataConfig
from trainables.data.datasets import training_images
from trainables.data.duplicates import copies
from trainables.data.folders import recognise
from trainables.data.held_out import held_out_images
from trainables.data.splits import split

RUN = RunOptions(trials=1)


@pytest.fixture
def parted(tmp_path: Path) -> Path:
    """Training, validation and test images of two classes, all different but of the same size in bytes."""
    shade = 0
    for part in ("train", "val", "test"):
        for name in ("cat", "dog"):
            (tmp_path / "d" / part / name).mkdir(parents=True)
            for number in range(4):
                shade += 1
                Image.new("L", (4, 4), shade).save(tmp_path / "d" / part / name / f"{number}.bmp")
    return tmp_path / "d"


def copy(root: Path, source: str, target: str) -> None:
    shutil.copy(root / source, root / target)


def folder(root: Path) -> DataConfig:
    return DataConfig(dataset=f"imagefolder:{root}", layouts="recognised", deduplicate=True)


def test_copies_are_kept_in_test_before_validation_before_training(parted: Path) -> None:
    copy(parted, "test/cat/0.bmp", "train/cat/other name.bmp")
    copy(parted, "test/cat/1.bmp", "val/cat/1.bmp")
    copy(parted, "val/dog/2.bmp", "train/dog/2.bmp")
    copy(parted, "train/dog/3.bmp", "train/dog/harmless.bmp")
    copy(parted, "test/dog/3.bmp", "test/dog/harmless.bmp")

    data = deduplicated(folder(parted), RUN)

    assert data.skipped_images == (*("train/train/cat/other name.bmp", "train/train/dog/2.bmp", "train/val/cat/1.bmp"),)
    training, test = training_images(data), held_out_images(data)
    assert (len(training.ids), len(test.ids)) == (4 + 4 + 7, 9)
    assert copies([test, training]) == [[], []]


def test_one_of_several_copies_stays_where_validation_is_drawn(parted: Path) -> None:
    shutil.rmtree(parted / "val")
    copy(parted, "train/dog/3.bmp", "train/dog/4.bmp")
    copy(parted, "train/dog/3.bmp", "train/dog/5.bmp")

    assert deduplicated(folder(parted), RUN).skipped_images == ("train/dog/4.bmp", "train/dog/5.bmp")


def test_a_drawn_test_split_is_the_same_without_its_copies(photo_folder: Path) -> None:
    for number in range(4):
        copy(photo_folder, f"china/{number}.jpg", f"china/copy {number}.jpg")
    data = folder(photo_folder)

    known = deduplicated(data, RUN)

    assert held_out_images(known).ids == held_out_images(data).ids
    images = training_images(known)
    paths = [*(images.paths or ()), *(held_out_images(known).paths or ())]
    assert len({path.read_bytes() for path in paths if path.parent.name == "china"}) == 8
    assert len({path.read_bytes() for path in images.paths or ()}) == len(images.ids)


def test_copies_across_splits_are_counted_and_named(parted: Path) -> None:
    copy(parted, "test/cat/0.bmp", "train/cat/0.bmp")
    copy(parted, "test/cat/1.bmp", "val/cat/1.bmp")
    (parted / "train" / "cat" / "notes.txt").write_text("x", encoding="utf-8")
    data = DataConfig(dataset=f"imagefolder:{parted}", layouts="recognised")
    images = training_images(data)

    found, left_out, doubled = findings(data, recognise(data.dataset), images, split(images, data), RUN)

    assert found.endswith(
        "2 classes; 8 images to train on, 8 to validate with (folder val), 8 to test with (folder test)"
    )
    assert left_out == "left out: 1 .txt files"
    assert "1 training images (in validation or test) and 1 validation images (in test)" in doubled
    assert "such as train/cat/0.bmp" in doubled
    assert "--deduplicate" in doubled


def test_files_that_cannot_be_read_are_copies_of_none(parted: Path) -> None:
    images = training_images(folder(parted))
    for path in images.paths or ():
        path.unlink()

    assert copies([images, images], within=True) == [[], []]


def test_a_dataset_without_files_cannot_be_deduplicated() -> None:
    with pytest.raises(UsageError, match="--deduplicate compares files, and --dataset digits has none"):
        deduplicated(DataConfig(dataset="digits", deduplicate=True), RUN)
