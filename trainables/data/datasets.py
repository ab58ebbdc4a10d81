"""The datasets that a study can train on: their training split, as labelled images that are read on demand."""

import dataclasses
import difflib
import hashlib
import logging
import os
import uuid
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from urllib.error import URLError
from zipfile import BadZipFile

import numpy as np
from filelock import FileLock
from PIL import Image

from trainables.config import DATASETS, DataConfig, Exif, data_root
from trainables.data import folders
from trainables.data.decoding import decode
from trainables.errors import InputError

logger = logging.getLogger(__name__)

TEST_FRACTION = 0.2
"""Share of a dataset without a test split of its own that is held out."""
DIGITS_TEST_SEED = 0
"""`digits` has no test split: this fixed seed makes one, the same for all studies."""


class ChangedImagesError(InputError):
    """A dataset's images are not those that a study recorded."""


@dataclass(frozen=True)
class LabelledImages:
    """The images of one split, not yet decoded."""

    dataset: str
    ids: tuple[str, ...]
    """A name for each image, unique and the same on every machine."""
    labels: np.ndarray
    """(N,) int64 indices into `classes`."""
    classes: tuple[str, ...]
    read: Callable[[int], Image.Image]
    """Decode image i, as RGB."""
    paths: tuple[Path, ...] | None
    """The images' files; None where they have none of their own."""
    validation: np.ndarray | None = None
    """(V,) int64, sorted: which of them are the dataset's own validation split; None: it has none."""
    exif: Exif = "ignore"
    """What `read` does with a file's EXIF orientation."""

    @property
    def fingerprint(self) -> str:
        """SHA-256 of the names, labels and classes: the same where files of the same names lie."""
        digest = hashlib.sha256(repr((self.dataset.partition(":")[0], self.classes)).encode())
        for name, label in zip(self.ids, self.labels.tolist(), strict=True):
            digest.update(f"{name}\0{label}\n".encode(errors="surrogateescape"))
        return digest.hexdigest()

    @property
    def content_sha256(self) -> str:
        """SHA-256 of the names, labels, classes and sizes in bytes: the same on every machine with the same files.

        Raises:
            InputError: A file is gone.
        """
        digest = hashlib.sha256(self.fingerprint.encode())
        try:
            for path in self.paths or ():
                digest.update(f"{path.stat().st_size}\n".encode())
        except OSError as error:
            reason = f"{error.filename} cannot be read ({error.strerror})"
            raise InputError(f"--dataset {self.dataset}: {reason}.") from error
        return digest.hexdigest()

    def subset(self, indices: np.ndarray) -> "LabelledImages":
        """Return the images at `indices`, in that order."""
        read, chosen = self.read, indices.tolist()
        return LabelledImages(
            dataset=self.dataset,
            ids=tuple(self.ids[i] for i in chosen),
            labels=self.labels[indices],
            classes=self.classes,
            read=lambda i: read(chosen[i]),
            paths=None if self.paths is None else tuple(self.paths[i] for i in chosen),
            validation=None if self.validation is None else np.flatnonzero(np.isin(indices, self.validation)),
            exif=self.exif,
        )


def training_images(data: DataConfig, data_dir: str | None = None, *, download: bool = True) -> LabelledImages:
    """Return the training split of `data`; one that is not there yet is downloaded, where it can be and may be.

    A validation split that the dataset has of its own is part of it, and marked as such.

    Raises:
        InputError: The dataset is unknown, missing, not what the study recorded, or has a class with fewer than two
            training images, of which one can validate, or with none where validation is given.
    """
    images = read_split(data, data_dir, train=True, download=download)
    if len(images.classes) < 2:
        raise InputError(f"--dataset {data.dataset}: at least two classes are needed, found {len(images.classes)}.")
    if images.validation is None:
        _require(images, images.labels, 2, "training image(s)", "one to train on and one to validate with")
    else:
        _require(images, np.delete(images.labels, images.validation), 1, "training image(s)", "to train on")
        _require(images, images.labels[images.validation], 1, "validation image(s)", "to validate with")
    return images


def _require(images: LabelledImages, labels: np.ndarray, least: int, what: str, why: str) -> None:
    """Raise an InputError where a class has fewer than `least` of `labels`."""
    counts = np.bincount(labels, minlength=len(images.classes))
    if counts.min() < least:
        name = images.classes[int(counts.argmin())]
        raise InputError(
            f"--dataset {images.dataset}: class {name!r} has {counts.min()} {what}; each class needs at least {least},"
            f" {why}. Add images or remove the class."
        )


def read_split(data: DataConfig, data_dir: str | None, *, train: bool, download: bool) -> LabelledImages:
    """Return one split of a dataset, without the images that the study leaves out.

    For `training_images` and the held-out test only; nothing else may call it.

    Raises:
        ChangedImagesError: Its images are not those that the study recorded.
        InputError: It cannot be read, or downloaded where `download` allows that.
    """
    images = _whole_split(data, data_root(data_dir), train=train, download=download)
    split, recorded = ("train", data.train_sha256) if train else ("test", data.test_sha256)
    if recorded is not None and images.content_sha256 != recorded:
        raise ChangedImagesError(
            f"--dataset {data.dataset}: the images of the {split} split are not those that the study was started with"
            " (their names, labels or sizes in bytes differ); restore them, or start a study under another name."
        )
    skipped = {name.partition("/")[2] for name in data.skipped_images if name.startswith(f"{split}/")}
    if not skipped:
        return images
    return images.subset(np.asarray([i for i, name in enumerate(images.ids) if name not in skipped], np.int64))


def _whole_split(data: DataConfig, root: Path, *, train: bool, download: bool) -> LabelledImages:
    if data.dataset.startswith("imagefolder:"):
        return _imagefolder(data, train=train)
    match data.dataset:
        case "pets":
            return _pets(root, data.exif, train=train, download=download)
        case "fashion-mnist":
            return _fashion_mnist(root, train=train, download=download)
        case "cifar10":
            return _cifar10(root, train=train, download=download)
        case "digits":
            return _digits(root, train=train)
    if Path(data.dataset).is_dir():
        raise InputError(f"--dataset {data.dataset}: a folder of images is named imagefolder:{data.dataset}.")
    near = difflib.get_close_matches(data.dataset, DATASETS, n=1)
    hint = f"did you mean {near[0]!r}? " if near else ""
    known = ", ".join((*DATASETS, "imagefolder:DIR"))
    raise InputError(f"--dataset {data.dataset}: unknown dataset; {hint}Known are {known}.")


def _digits(root: Path, *, train: bool) -> LabelledImages:
    """scikit-learn's 1,797 scans of 8x8 pixels, 0..16, stretched to 0..255."""
    pixels, labels, test = _digits_arrays(root / "digits" / "digits.npz")
    chosen = np.setdiff1d(np.arange(len(labels)), test) if train else test
    return _in_memory("digits", pixels[chosen], labels[chosen], chosen, tuple("0123456789"))


def _digits_arrays(path: Path) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the images, their labels, and which are the test split, sorted.

    scikit-learn is asked once per machine, and `path` keeps what it gives: to import it takes longer than many a trial.
    """
    names = ("pixels", "labels", "test")
    with suppress(OSError, EOFError, ValueError, KeyError, BadZipFile), path.open("rb") as file, np.load(file) as kept:
        return kept["pixels"], kept["labels"], kept["test"]
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    bunch = load_digits()
    pixels = np.round(bunch.images * (255 / 16)).astype(np.uint8)
    labels = bunch.target.astype(np.int64)
    _, test = train_test_split(
        np.arange(len(labels)), test_size=TEST_FRACTION, stratify=labels, random_state=DIGITS_TEST_SEED
    )
    arrays = (pixels, labels, np.sort(test))
    # Where nothing can be written it is asked each time.
    partial = path.with_name(f"{path.name}.{uuid.uuid4().hex}.partial")
    with suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        with partial.open("wb") as written:
            np.savez(written, **dict(zip(names, arrays, strict=True)))
        partial.replace(path)
    return arrays


def _fashion_mnist(root: Path, *, train: bool, download: bool) -> LabelledImages:
    folder = root / "FashionMNIST" / "raw"
    stem = "train" if train else "t10k"
    files = [folder / f"{stem}-images-idx3-ubyte", folder / f"{stem}-labels-idx1-ubyte"]
    _ensure(root, "FashionMNIST", files, "FashionMNIST", download=download)
    # torch takes seconds to be imported, which those are spared who look at a few images.
    from trainables.vision import datasets

    pixels = np.frombuffer(files[0].read_bytes(), np.uint8, offset=16).reshape(-1, 28, 28)
    labels = np.frombuffer(files[1].read_bytes(), np.uint8, offset=8).astype(np.int64)
    return _in_memory("fashion-mnist", pixels, labels, np.arange(len(labels)), tuple(datasets.FashionMNIST.classes))


def _cifar10(root: Path, *, train: bool, download: bool) -> LabelledImages:
    folder = root / "cifar-10-batches-py"
    names = [f"data_batch_{i}" for i in range(1, 6)] if train else ["test_batch"]
    files = [folder / name for name in (*names, "batches.meta")]
    _ensure(root, "cifar-10-batches-py", files, "CIFAR10", download=download)
    from trainables.vision import datasets

    try:
        # torchvision checks each file's published MD5 before it unpickles it.
        source = datasets.CIFAR10(str(root), train=train)
    except RuntimeError as error:
        raise InputError(f"--dataset cifar10: the files in {folder} are not CIFAR-10's ({error}).") from error
    labels = np.asarray(source.targets, np.int64)
    return _in_memory("cifar10", source.data, labels, np.arange(len(labels)), tuple(source.classes))


def _pets(root: Path, exif: Exif, *, train: bool, download: bool) -> LabelledImages:
    """Oxford-IIIT Pet: the listing of a split has lines ``Abyssinian_100 1 1 1``, the breed's number from 1 second."""
    folder = root / "oxford-iiit-pet"
    listing = folder / "annotations" / ("trainval.txt" if train else "test.txt")
    _ensure(root, "oxford-iiit-pet", [folder / "images", listing], "OxfordIIITPet", download=download)
    rows = [line.split() for line in listing.read_text(encoding="utf-8").splitlines() if line.strip()]
    breeds = {int(row[1]) - 1: " ".join(part.title() for part in row[0].split("_")[:-1]) for row in rows}
    if sorted(breeds) != list(range(len(breeds))):
        raise InputError(f"--dataset pets: {listing} does not number its breeds from 1 on; fetch it again.")
    paths = [folder / "images" / f"{row[0]}.jpg" for row in rows]
    labels = np.asarray([int(row[1]) - 1 for row in rows], np.int64)
    classes = tuple(breeds[index] for index in range(len(breeds)))
    return _files("pets", folder / "images", paths, labels, classes, exif)


def _imagefolder(data: DataConfig, *, train: bool) -> LabelledImages:
    """A folder's own splits; where it has no test split, a share of its training images is held out."""
    found = folders.listed(data)
    if not train and "test" in found.splits:
        return _of_parts(data, found.splits["test"].path, found.part("test"))
    part = found.part("train")
    if "validation" in found.splits:
        root = Path(os.path.commonpath([one.path for one in found.splits.values()]))
        images = _of_parts(data, root, part, found.part("validation"))
    else:
        images = _of_parts(data, part.folder, part)
    if "test" in found.splits:
        return images
    own = np.asarray(part.labels, np.int64)
    if images.validation is None:
        _require(images, own, 3, "image(s)", "to be split into training, validation and test")
    else:
        _require(images, own, 2, "training image(s)", "one to train on and one to test with")
    held_out = stratified_share(own, TEST_FRACTION, data.split_seeds.test)
    rest = np.setdiff1d(np.arange(len(images.labels)), held_out)
    return images.subset(rest if train else held_out)


def _of_parts(
    data: DataConfig, root: Path, part: folders.Part, validation: folders.Part | None = None
) -> LabelledImages:
    """Wrap the images of a split, followed by those of a given validation split; their paths below `root` name them."""
    if validation is None:
        return _files(data.dataset, root, part.paths, np.asarray(part.labels, np.int64), part.classes, data.exif)
    if validation.classes != part.classes:
        raise different_classes(data, "validation", validation.classes, part.classes)
    labels = np.asarray((*part.labels, *validation.labels), np.int64)
    images = _files(data.dataset, root, (*part.paths, *validation.paths), labels, part.classes, data.exif)
    return dataclasses.replace(images, validation=np.arange(len(part.labels), len(labels)))


def different_classes(data: DataConfig, split: str, found: tuple[str, ...], expected: tuple[str, ...]) -> InputError:
    """Return what is raised where a split has other classes than the training split."""
    differing = sorted(set(found) ^ set(expected))
    shown = ", ".join(differing[:5]) + (f" and {len(differing) - 5} more" if len(differing) > 5 else "")
    return InputError(
        f"--dataset {data.dataset}: training and {split} split have different classes ({shown}); each needs the same"
        " class folders."
    )


def stratified_share(labels: np.ndarray, share: float, seed: int) -> np.ndarray:
    """Return the sorted indices of `share` of each class, at least one and never all."""
    generator = np.random.default_rng(seed)
    chosen = []
    for label in np.unique(labels):
        members = generator.permutation(np.flatnonzero(labels == label))
        chosen.append(members[: min(max(1, round(len(members) * share)), len(members) - 1)])
    return np.sort(np.concatenate(chosen))


def _in_memory(
    dataset: str, pixels: np.ndarray, labels: np.ndarray, numbers: np.ndarray, classes: tuple[str, ...]
) -> LabelledImages:
    """Wrap (N, H, W) or (N, H, W, 3) uint8 pixels; `numbers` name the images within their dataset."""
    return LabelledImages(
        dataset=dataset,
        ids=tuple(f"{number:05d}" for number in numbers),
        labels=labels,
        classes=classes,
        read=lambda i: Image.fromarray(pixels[i]).convert("RGB"),
        paths=None,
    )


def _files(
    dataset: str, folder: Path, paths: Sequence[Path], labels: np.ndarray, classes: tuple[str, ...], exif: Exif
) -> LabelledImages:
    """Wrap image files; their paths below `folder` name them."""
    files, above = tuple(paths), len(str(folder / "_")) - 1
    return LabelledImages(
        dataset=dataset,
        ids=tuple(folders.readable_name(str(path)[above:]) for path in files),
        labels=labels,
        classes=classes,
        read=lambda i: decode(files[i], exif),
        paths=files,
        exif=exif,
    )


def _ensure(root: Path, folder: str, needed: list[Path], source: str, *, download: bool) -> None:
    """Let torchvision's dataset `source` download itself where `needed` is not all there, one process at a time."""
    if all(path.exists() for path in needed):
        return
    if not download:
        raise InputError(f"the dataset's files are not in {root / folder}.")
    root.mkdir(parents=True, exist_ok=True)
    with FileLock(root / f".{folder}.lock"):
        if all(path.exists() for path in needed):
            return
        logger.info("downloading %s into %s", folder, root)
        from trainables.vision import datasets

        try:
            getattr(datasets, source)(str(root), download=True)
        except (URLError, OSError, RuntimeError) as error:
            missing = ", ".join(str(path) for path in needed if not path.exists())
            raise InputError(
                f"the dataset cannot be downloaded ({error}); bring its files yourself, in torchvision's layout:"
                f" {missing} (--data-dir names another folder than {root})."
            ) from error
