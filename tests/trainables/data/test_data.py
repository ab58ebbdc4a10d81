"""Datasets, splits, transforms and the image store, on real images and files in the exact published layouts."""

import dataclasses
import io
import shutil
import struct
import zlib
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from torchvision.models import get_model_weights

from hpo.spec import split_seeds
from tests import pets as pets_layout
from trainables.config import PAPER_BACKBONES, DataConfig, Geometry, ModelConfig
from trainables.data.datasets import LabelledImages, training_images
from trainables.data.decoding import decode
from trainables.data.held_out import held_out_images
from trainables.data.image_store import open_store, store_path
from trainables.data.splits import listing, split, summary
from trainables.data.transforms import augment, normalise, shrink
from trainables.errors import InputError
from trainables.networks.identity import geometry_of

SMALL = Geometry(resize=36, crop=32, interpolation="bilinear", mean=(0.5, 0.5, 0.5), std=(0.2, 0.2, 0.2))


@pytest.mark.parametrize("name", sorted(PAPER_BACKBONES))
def test_evaluation_pixels_equal_torchvisions_own_transform(name: str, photographs: list[Path]) -> None:
    transform = get_model_weights(PAPER_BACKBONES[name]).DEFAULT.transforms()
    own = geometry_of(ModelConfig(backbone=name))
    for path in photographs:
        photograph = Image.open(path).convert("RGB")
        for image in (photograph, photograph.rotate(90, expand=True), photograph.crop((10, 20, 250, 260))):
            ours = normalise(torch.from_numpy(shrink(image, own))[None], own)[0]

            assert torch.equal(ours, transform(image))


def test_augmentation_is_decided_by_its_seed_alone() -> None:
    images = torch.randint(0, 256, (16, 3, 32, 32), dtype=torch.uint8)

    first, second, other = augment(images, 1), augment(images, 1), augment(images, 2)

    assert first.dtype == torch.uint8
    assert first.shape == images.shape
    assert torch.equal(first, second)
    assert not torch.equal(first, other)


def test_augmentation_flips_half_of_the_images_and_keeps_their_content() -> None:
    ramp = torch.arange(32, dtype=torch.uint8).mul(8).expand(400, 3, 32, 32)

    slopes = augment(ramp, 0).float().diff(dim=3).mean(dim=(1, 2, 3))

    assert 150 < int((slopes < 0).sum()) < 250
    # A crop of 35 to 100 % of the area stretches a slope of 8 per pixel to something between about 4 and 8.
    assert 3 < float(slopes.abs().min()) <= float(slopes.abs().max()) <= 8.01


def test_digits_are_split_the_same_for_everyone() -> None:
    training, test = (load(DataConfig(dataset="digits")) for load in (training_images, held_out_images))

    assert (len(training.ids), len(test.ids)) == (1437, 360)
    assert not set(training.ids) & set(test.ids)
    assert np.bincount(test.labels).min() >= 34
    assert training.read(0).size == (8, 8)


def test_digits_are_asked_of_scikit_learn_once_and_again_where_the_file_is_damaged(tmp_path: Path) -> None:
    config, file = DataConfig(dataset="digits"), tmp_path / "digits" / "digits.npz"
    first = training_images(config, str(tmp_path))
    kept = file.read_bytes()
    again = training_images(config, str(tmp_path))
    file.write_bytes(kept[:1000])
    mended = training_images(config, str(tmp_path))
    file.write_bytes(b"")
    filled = training_images(config, str(tmp_path))

    for other in (again, mended, filled):
        assert other.content_sha256 == first.content_sha256
        assert all(np.array_equal(np.asarray(other.read(i)), np.asarray(first.read(i))) for i in range(50))
    assert file.read_bytes() == kept
    assert [path.name for path in file.parent.iterdir()] == ["digits.npz"]


def idx(array: np.ndarray) -> bytes:
    """Fashion-MNIST's format: a magic number, the dimensions big-endian, the bytes."""
    return struct.pack(f">BBBB{array.ndim}I", 0, 0, 8, array.ndim, *array.shape) + array.tobytes()


@pytest.fixture
def fashion(tmp_path: Path) -> Path:
    raw = tmp_path / "FashionMNIST" / "raw"
    raw.mkdir(parents=True)
    for stem, count in (("train", 40), ("t10k", 10)):
        labels = (np.arange(count) % 10).astype(np.uint8)
        pixels = np.full((count, 28, 28), labels[:, None, None] * 20, np.uint8)
        (raw / f"{stem}-images-idx3-ubyte").write_bytes(idx(pixels))
        (raw / f"{stem}-labels-idx1-ubyte").write_bytes(idx(labels))
    return tmp_path


@pytest.fixture
def pets(tmp_path: Path, photographs: list[Path]) -> Path:
    return pets_layout.write(tmp_path, photographs)


def test_fashion_mnist_is_read_from_torchvisions_layout(fashion: Path) -> None:
    data = DataConfig(dataset="fashion-mnist")

    training, test = training_images(data, str(fashion)), held_out_images(data, str(fashion))

    assert (len(training.ids), len(test.ids)) == (40, 10)
    assert training.classes[9] == "Ankle boot"
    assert training.read(3).getpixel((5, 5)) == (60, 60, 60)


def test_pets_are_read_from_torchvisions_layout(pets: Path) -> None:
    data = DataConfig(dataset="pets")

    training, test = training_images(data, str(pets)), held_out_images(data, str(pets))

    assert (len(training.ids), len(test.ids)) == (12, 6)
    assert training.classes == ("Abyssinian", "American Bulldog")
    assert training.read(0).size == (640, 427)


def test_training_works_where_the_test_files_are_gone(fashion: Path, pets: Path, photo_folder: Path) -> None:
    for gone in (fashion / "FashionMNIST" / "raw").glob("t10k*"):
        gone.unlink()
    (pets / "oxford-iiit-pet" / "annotations" / "test.txt").unlink()
    for gone in (pets / "oxford-iiit-pet" / "images").glob("*_[789].jpg"):
        gone.unlink()
    split_folder = photo_folder.parent / "parted"
    shutil.copytree(photo_folder, split_folder / "train")
    (split_folder / "test").mkdir()

    for dataset, count in (("fashion-mnist", 40), ("pets", 12), (f"imagefolder:{split_folder}", 16)):
        data = DataConfig(dataset=dataset)

        assert len(open_store(training_images(data, str(fashion)), SMALL, str(fashion / "stores"), 2**30)) == count


def test_a_tree_without_parts_holds_a_fifth_of_each_class_out(photo_folder: Path) -> None:
    data = DataConfig(dataset=f"imagefolder:{photo_folder}", split_seeds=split_seeds(3))

    training, test = training_images(data), held_out_images(data)

    assert np.bincount(training.labels).tolist() == [6, 6]
    assert np.bincount(test.labels).tolist() == [2, 2]
    assert not set(training.ids) & set(test.ids)


def test_train_and_test_must_have_the_same_classes(photo_folder: Path) -> None:
    root = photo_folder.parent / "parted"
    shutil.copytree(photo_folder, root / "train")
    shutil.copytree(photo_folder, root / "test")
    (root / "test" / "china").rename(root / "test" / "peru")

    with pytest.raises(InputError, match=r"different classes \(china, peru\)"):
        held_out_images(DataConfig(dataset=f"imagefolder:{root}"))


@pytest.mark.parametrize(
    ("dataset", "said"),
    [("digit", "did you mean 'digits'"), ("imagefolder:/nowhere/at/all", "there is no folder /nowhere/at/all")],
)
def test_an_unknown_dataset_is_said(dataset: str, said: str) -> None:
    with pytest.raises(InputError, match=said):
        training_images(DataConfig(dataset=dataset))


def test_a_class_with_one_image_is_named(photo_folder: Path) -> None:
    for path in sorted((photo_folder / "flower").iterdir())[1:]:
        path.unlink()

    with pytest.raises(InputError, match=r"class 'flower' has 1 image\(s\); each class needs at least 3"):
        training_images(DataConfig(dataset=f"imagefolder:{photo_folder}"))


def test_a_download_that_fails_names_the_files_to_bring(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # A proxy that nobody listens at stands in for a machine without a network.
    for name in ("http_proxy", "https_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    # urllib keeps its first opener, proxies and all, for the rest of the process.
    monkeypatch.setattr("urllib.request._opener", None)

    with pytest.raises(InputError, match=r"cannot be downloaded .*bring its files yourself.*annotations/trainval.txt"):
        training_images(DataConfig(dataset="pets"), str(tmp_path))


@pytest.mark.parametrize("dataset", ["pets", "fashion-mnist", "cifar10"])
@pytest.mark.parametrize("read", [training_images, held_out_images])
def test_who_may_not_download_is_told_that_the_files_are_missing(
    tmp_path: Path, dataset: str, read: Callable[..., LabelledImages]
) -> None:
    with pytest.raises(InputError, match="the dataset's files are not in"):
        read(DataConfig(dataset=dataset), str(tmp_path), download=False)

    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("mode", ["L", "P", "RGBA", "CMYK", "I;16", "LA", "1"])
def test_every_kind_of_image_becomes_rgb(mode: str, photo_folder: Path, tmp_path: Path) -> None:
    suffix = {"CMYK": ".jpg", "I;16": ".tiff"}.get(mode, ".png")
    target = photo_folder / "flower" / f"odd{suffix}"
    Image.open(photo_folder / "flower" / "0.jpg").convert("I;16" if mode == "I;16" else mode).save(target)
    images = training_images(DataConfig(dataset=f"imagefolder:{photo_folder}"))

    pixels = open_store(images, SMALL, str(tmp_path / "data"), 2**30)

    assert pixels.shape == (len(images.ids), 3, 32, 32)


def test_sixteen_bits_become_eight_and_thirty_two_are_refused(tmp_path: Path) -> None:
    values = np.arange(0, 65536, 257, dtype=np.uint16).reshape(16, 16)
    Image.fromarray(values).save(tmp_path / "deep.png")
    Image.fromarray(values.astype(np.float32)).save(tmp_path / "float.tiff")

    assert np.asarray(decode(tmp_path / "deep.png"))[..., 0].tolist() == np.arange(256).reshape(16, 16).tolist()
    with pytest.raises(InputError, match=r"float\.tiff cannot be read as an image \(mode F: pixels of 32 bits"):
        decode(tmp_path / "float.tiff")


def test_an_animation_gives_its_first_frame(tmp_path: Path) -> None:
    frames = [Image.new("RGB", (8, 8), colour) for colour in ("red", "blue")]
    frames[0].save(tmp_path / "moving.webp", save_all=True, append_images=frames[1:], lossless=True)

    assert decode(tmp_path / "moving.webp").getpixel((4, 4)) == (255, 0, 0)


def test_an_enormous_image_is_refused_before_it_is_decoded(tmp_path: Path) -> None:
    side = 20_000
    header = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    chunks = [(b"IHDR", header), (b"IDAT", zlib.compress(b"")), (b"IEND", b"")]
    content = b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data)) for kind, data in chunks
    )
    (tmp_path / "bomb.png").write_bytes(b"\x89PNG\r\n\x1a\n" + content)

    with pytest.raises(InputError, match=r"bomb\.png cannot be read as an image \(.*exceeds limit"):
        decode(tmp_path / "bomb.png")


def labelled(labels: list[int]) -> LabelledImages:
    return LabelledImages(
        dataset="drawn",
        ids=tuple(str(i) for i in range(len(labels))),
        labels=np.asarray(labels, np.int64),
        classes=("a", "b", "c"),
        read=lambda i: Image.new("RGB", (1, 1)),
        paths=None,
    )


label_lists = st.lists(st.integers(0, 2), max_size=60).map(lambda drawn: [*drawn, 0, 0, 1, 1, 2, 2])


@settings(max_examples=80, deadline=None)
@given(label_lists, st.floats(0.05, 0.95), st.floats(0.05, 1), st.integers(0, 99))
def test_splits_are_stratified_disjoint_and_repeatable(
    labels: list[int], val_fraction: float, label_fraction: float, seed: int
) -> None:
    images = labelled(labels)
    full = DataConfig(dataset="drawn", val_fraction=val_fraction, split_seeds=split_seeds(seed))
    fewer = dataclasses.replace(full, label_fraction=label_fraction)

    whole, part = split(images, full), split(images, fewer)

    assert not set(whole.train) & set(whole.validation)
    assert len(whole.train) + len(whole.validation) == len(labels)
    assert set(part.train) <= set(whole.train)
    assert np.array_equal(part.validation, whole.validation)
    for label in range(3):
        count = labels.count(label)
        validating = int((images.labels[whole.validation] == label).sum())
        assert 1 <= validating <= count - 1
        assert abs(validating - count * val_fraction) <= 1
        assert (images.labels[part.train] == label).any()
    assert split(images, fewer).fingerprint == part.fingerprint


def test_a_machine_with_other_files_is_refused() -> None:
    images = labelled([0, 0, 1, 1, 2, 2])

    with pytest.raises(InputError, match="not those that the study was started with"):
        split(images, DataConfig(dataset="drawn", splits_sha256="0" * 64))


@pytest.mark.parametrize(("option", "value"), [("val_fraction", 1.0), ("val_fraction", 0.0), ("label_fraction", 0.0)])
def test_a_fraction_out_of_range_is_said(option: str, value: float) -> None:
    with pytest.raises(InputError, match=f"--{option.replace('_', '-')} must"):
        split(labelled([0, 0, 1, 1, 2, 2]), DataConfig(dataset="drawn", **{option: value}))  # type: ignore[arg-type]


def test_the_record_of_the_splits_lists_every_image() -> None:
    images = labelled([0, 0, 1, 1, 2, 2])
    splits = split(images, DataConfig(dataset="drawn"))

    assert len(listing(images, splits).splitlines()) == 7
    assert summary(images, splits)["train"] == 3


def open_from_elsewhere(folder: str, data_dir: str) -> float:
    images = training_images(DataConfig(dataset=f"imagefolder:{folder}"))
    return float(open_store(images, SMALL, data_dir, 2**30).mean())


def test_processes_that_open_a_store_at_once_build_it_once(photo_folder: Path, tmp_path: Path) -> None:
    data_dir = str(tmp_path / "data")
    with ProcessPoolExecutor(2) as pool:
        futures = [pool.submit(open_from_elsewhere, str(photo_folder), data_dir) for _ in range(2)]
        means = {future.result() for future in futures}

    assert len(means) == 1
    assert len(list((tmp_path / "data" / "stores" / "images").glob("*.npy"))) == 1
    assert not list((tmp_path / "data" / "stores" / "images").glob("*.partial"))


def test_a_changed_file_makes_another_store_and_a_torn_store_is_built_again(photo_folder: Path, tmp_path: Path) -> None:
    data = DataConfig(dataset=f"imagefolder:{photo_folder}")
    images = training_images(data)
    whole = np.array(open_store(images, SMALL, str(tmp_path), 2**30))
    path = store_path(images, SMALL, str(tmp_path))
    path.write_bytes(path.read_bytes()[:500])

    again = open_store(images, SMALL, str(tmp_path), 2**30)
    assert images.paths is not None
    Image.new("RGB", (40, 40), "red").save(images.paths[0])

    assert np.array_equal(again, whole)
    assert store_path(training_images(data), SMALL, str(tmp_path)) != path


@pytest.fixture
def broken(photo_folder: Path) -> Path:
    path = photo_folder / "china" / "3.jpg"
    path.write_bytes(path.read_bytes()[:2000])
    return path


def test_an_image_that_cannot_be_read_is_named_and_leaves_nothing(
    broken: Path, photo_folder: Path, tmp_path: Path
) -> None:
    images = training_images(DataConfig(dataset=f"imagefolder:{photo_folder}"))
    if str(broken.relative_to(photo_folder)) not in images.ids:
        images = held_out_images(DataConfig(dataset=f"imagefolder:{photo_folder}"))

    with pytest.raises(InputError, match=r"china/3\.jpg cannot be read as an image"):
        open_store(images, SMALL, str(tmp_path / "data"), 2**30)

    assert not [path for path in (tmp_path / "data" / "stores" / "images").iterdir() if path.suffix != ".lock"]


def test_a_jpeg_is_decoded_as_pillow_decodes_it(photographs: list[Path]) -> None:
    content = io.BytesIO(photographs[0].read_bytes())

    assert Image.open(content).size == (640, 427)


def test_an_image_of_another_size_is_noticed(photo_folder: Path) -> None:
    data = DataConfig(dataset=f"imagefolder:{photo_folder}")
    recorded = dataclasses.replace(
        data,
        train_sha256=training_images(data).content_sha256,
        test_sha256=held_out_images(data).content_sha256,
    )
    training, test = training_images(recorded).paths, held_out_images(recorded).paths
    assert training is not None
    assert test is not None

    for path, name, read in ((training[0], "train", training_images), (test[0], "test", held_out_images)):
        whole = path.read_bytes()
        path.write_bytes(whole + b"0")
        with pytest.raises(InputError, match=f"the images of the {name} split are not those"):
            read(recorded)
        path.write_bytes(whole)


def test_an_image_is_left_out_of_the_split_that_it_is_bad_in(tmp_path: Path, photo_folder: Path) -> None:
    root = tmp_path / "split"
    for name in ("train", "test"):
        shutil.copytree(photo_folder, root / name)
    data = DataConfig(dataset=f"imagefolder:{root}", skipped_images=("train/china/1.jpg",))

    assert "china/1.jpg" not in training_images(data).ids
    assert "china/1.jpg" in held_out_images(data).ids
