"""Every image is looked at before a study exists; what cannot be read is named with its split, all in one pass."""

import shutil
from pathlib import Path

import pytest

from hpo.errors import UsageError
from hpo.spec import RunOptions
from hpo.studies.preflight import readable
from trainables.config import DataConfig, Geometry

SMALL = Geometry(resize=36, crop=32, interpolation="bilinear", mean=(0.5, 0.5, 0.5), std=(0.2, 0.2, 0.2))


@pytest.fixture
def torn(tmp_path: Path, photo_folder: Path) -> Path:
    """A folder whose training and test split each have an image that is torn, of different names."""
    root = tmp_path / "torn"
    for split, name in (("train", "china/1.jpg"), ("test", "flower/2.jpg")):
        shutil.copytree(photo_folder, root / split)
        path = root / split / name
        path.write_bytes(path.read_bytes()[:2000])
    return root


def test_bad_images_of_both_splits_are_named_in_one_pass(torn: Path, tmp_path: Path) -> None:
    options = RunOptions(trials=1, data_dir=str(tmp_path / "data"))

    with pytest.raises(UsageError, match=r"train/china/1\.jpg.*test/flower/2\.jpg.*--skip-bad-images"):
        readable(DataConfig(dataset=f"imagefolder:{torn}"), SMALL, options, skip_bad=False)


def test_a_bad_image_is_left_out_of_its_own_split(torn: Path, tmp_path: Path) -> None:
    options = RunOptions(trials=1, data_dir=str(tmp_path / "data"))

    data = readable(DataConfig(dataset=f"imagefolder:{torn}"), SMALL, options, skip_bad=True)

    assert data.skipped_images == ("test/flower/2.jpg", "train/china/1.jpg")


def test_links_without_a_target_are_named_with_bad_images_of_each_split(torn: Path, tmp_path: Path) -> None:
    for number in range(2, 6):
        (torn / "train" / "china" / f"{number}.jpg").write_bytes(b"")
    gone = torn / "train" / "china" / "gone.jpg"
    gone.symlink_to(torn / "nowhere.jpg")
    options = RunOptions(trials=1, data_dir=str(tmp_path / "data"))
    data = DataConfig(dataset=f"imagefolder:{torn}", layouts="recognised")

    said = r"and 2 more; .*test/flower/2\.jpg.*gone\.jpg is a link to .*nowhere\.jpg, which is not there"
    with pytest.raises(UsageError, match=said):
        readable(data, SMALL, options, skip_bad=False, dangling=[gone])
    assert len(readable(data, SMALL, options, skip_bad=True, dangling=[gone]).skipped_images) == 6
