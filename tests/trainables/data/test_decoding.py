"""Image files as people have them: turned by EXIF, damaged, or with something that Pillow warns of."""

import logging
import warnings
from pathlib import Path

import numpy as np
import pytest
from PIL import ExifTags, Image, ImageOps

from trainables.config import DataConfig, Geometry
from trainables.data.array_store import evict
from trainables.data.datasets import training_images
from trainables.data.decoding import decode, pillow_warnings
from trainables.data.image_store import open_store, store_path
from trainables.errors import InputError

SMALL = Geometry(resize=8, crop=8, interpolation="bilinear", mean=(0.5, 0.5, 0.5), std=(0.2, 0.2, 0.2))
CORNER = np.zeros((6, 9, 3), np.uint8)
CORNER[:2, :3] = 255
CORNER[4:, :3, 0] = 255


def turned(path: Path, orientation: int) -> Path:
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    Image.fromarray(CORNER).save(path, exif=exif)
    return path


@pytest.mark.parametrize("suffix", [".png", ".webp", ".tif"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_an_image_is_turned_as_viewers_turn_it(orientation: int, suffix: str, tmp_path: Path) -> None:
    path = turned(tmp_path / f"phone{suffix}", orientation)
    with Image.open(path) as image:
        upright = np.asarray(ImageOps.exif_transpose(image).convert("RGB"))

    assert np.array_equal(np.asarray(decode(path, "turn")), upright)
    if suffix == ".png":
        assert np.array_equal(np.asarray(decode(path, "ignore")), CORNER)


@pytest.mark.parametrize(
    "entry",
    [
        *(bytes((1, 18, 0, 3, 0, 0, 0, 1, 0, number, 0, 0)) for number in (0, 9)),
        b"\x01\x12\x00\x02\x00\x00\x00\x026\x00\x00\x00",  # the text "6"
        b"\x01\x12\x00\x05\x00\x00\x00\x01\x00\x00\xff\xff",  # a fraction beyond the end
    ],
)
def test_an_orientation_that_means_nothing_is_left_alone(entry: bytes, tmp_path: Path) -> None:
    exif = b"Exif\0\0MM\0*\0\0\0\x08\0\x01" + entry + bytes(4)
    Image.fromarray(CORNER).save(tmp_path / "odd.jpg", exif=exif)

    with pillow_warnings():
        assert decode(tmp_path / "odd.jpg", "turn").size == (9, 6)


def test_damaged_exif_leaves_the_image_as_it_is(tmp_path: Path) -> None:
    Image.fromarray(CORNER).save(tmp_path / "a.jpg")
    whole = (tmp_path / "a.jpg").read_bytes()
    (tmp_path / "a.jpg").write_bytes(whole[:2] + b"\xff\xe1\x00\x12Exif\0\0MM\0*\0\0\0\x08\xff\xff" + whole[2:])

    with pillow_warnings() as warned:
        assert decode(tmp_path / "a.jpg", "turn").size == (9, 6)
    assert all(line.startswith(f"{tmp_path / 'a.jpg'}: ") for line in warned)


def test_turned_images_have_a_store_of_their_own(photo_folder: Path, tmp_path: Path) -> None:
    turned(photo_folder / "china" / "0.jpg", 6)
    paths = []
    for exif in ("turn", "ignore"):
        data = DataConfig(dataset=f"imagefolder:{photo_folder}", layouts="recognised", exif=exif)
        images = training_images(data)
        pixels = open_store(images, SMALL, str(tmp_path), 2**30)
        paths.append(store_path(images, SMALL, str(tmp_path)))
        if "china/0.jpg" in images.ids:
            bright = np.asarray(pixels[images.ids.index("china/0.jpg")]).mean(axis=0)
            assert (bright[:2, -2:].mean() > 200) == (exif == "turn")

    assert paths[0] != paths[1]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "empty"),
        (b"<!DOCTYPE html>\n<html>404", "a web page or XML"),
        (b"version https://git-lfs.github.com/spec/v1\n", "a Git LFS pointer; `git lfs pull` fetches it"),
        (b"\x00\x01", "of no known format"),
    ],
)
def test_what_is_no_image_says_what_it_is(content: bytes, said: str, tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(content)

    with pytest.raises(InputError, match=rf"a\.png cannot be read as an image \({said}\)"):
        decode(tmp_path / "a.png")


def test_warnings_of_pillow_are_counted_and_kept_beside_the_store(
    photo_folder: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    for number in range(8):
        palette = Image.new("P", (9, 9))
        palette.putpalette(bytes(range(192)))
        palette.save(photo_folder / "china" / f"{number}.png", transparency=bytes(range(64)))
    images = training_images(DataConfig(dataset=f"imagefolder:{photo_folder}", layouts="recognised"))

    with caplog.at_level(logging.INFO, "trainables"):
        open_store(images, SMALL, str(tmp_path), 2**30)

    expected = [name for name in images.ids if name.endswith(".png")]
    notes = store_path(images, SMALL, str(tmp_path)).with_suffix(".txt")
    assert f"{len(expected)} warnings of Pillow about images that it reads are in {notes}" in caplog.text
    lines = notes.read_text(encoding="utf-8").splitlines()
    assert [line.partition(": ")[0] for line in lines] == [str(photo_folder / name) for name in sorted(expected)]
    assert "Palette images with Transparency" in lines[0]
    assert capfd.readouterr().err == ""

    evict(tmp_path / "stores", 0)
    assert not notes.exists()


def test_warnings_of_others_are_shown_while_those_of_pillow_are_gathered() -> None:
    def both() -> list[str]:
        with pillow_warnings() as gathered:
            warnings.warn("of mine", UserWarning, stacklevel=1)
            logging.getLogger("PIL.TiffImagePlugin").warning("of Pillow")
        return gathered

    with pytest.warns(UserWarning, match="of mine"):
        gathered = both()

    assert [line.rpartition(": ")[2] for line in gathered] == ["of Pillow"]
