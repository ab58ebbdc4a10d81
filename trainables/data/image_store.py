"""Decoded images, once per machine: a memory-mapped array that all trials of all studies share."""

import hashlib
import logging
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from joblib import cpu_count

from trainables.config import Geometry
from trainables.data.array_store import new_array, notes_path, open_array, store_dir
from trainables.data.datasets import LabelledImages
from trainables.data.decoding import pillow_warnings
from trainables.data.transforms import shrink
from trainables.errors import InputError
from trainables.steps import LongWork

logger = logging.getLogger(__name__)

_SHOWN = 3


class BadImagesError(InputError):
    """Images of a dataset cannot be read."""

    def __init__(self, dataset: str, reasons: dict[str, str]) -> None:
        self.reasons = reasons
        super().__init__(f"--dataset {dataset}: {shown(reasons)}")


def shown(reasons: dict[str, str]) -> str:
    """Return the first few of the reasons why images cannot be read, and how many more there are."""
    words = [reason.removesuffix("; fix or remove it.") for reason in list(reasons.values())[:_SHOWN]]
    return "; ".join(words) + (f"; and {len(reasons) - _SHOWN} more" if len(reasons) > _SHOWN else "")


def open_store(images: LabelledImages, geometry: Geometry, data_dir: str | None, bound: int) -> np.ndarray:
    """Return the pixels of `images` at `geometry`, (N, 3, crop, crop) uint8, read-only and memory-mapped.

    They are decoded at the first call on a machine, by one process, and found again by every later one. `bound` is what
    the machine's store of arrays may hold, in bytes.

    Raises:
        BadImagesError: Images cannot be read; nothing is left behind.
    """
    shape = (len(images.ids), 3, geometry.crop, geometry.crop)
    return open_array(
        store_path(images, geometry, data_dir),
        lambda store: store.shape == shape and store.dtype == np.uint8,
        lambda path: _build(path, shape, images, geometry),
        bound,
    )


def store_path(images: LabelledImages, geometry: Geometry, data_dir: str | None) -> Path:
    """Return where the pixels lie: a name made of the images, their files' sizes and times, and the geometry."""
    turned = " turned" if images.exif == "turn" else ""
    digest = hashlib.sha256(f"{images.fingerprint} {geometry}{turned}".encode())
    for path in images.paths or ():
        status = path.stat()
        digest.update(f"{status.st_size} {status.st_mtime_ns}\n".encode())
    return store_dir("images", data_dir) / f"{digest.hexdigest()[:32]}.npy"


def _build(path: Path, shape: tuple[int, ...], images: LabelledImages, geometry: Geometry) -> None:
    work, bad = LongWork(logger, f"decoding {images.dataset}"), dict[str, str]()
    store = new_array(path, np.uint8, shape)
    with pillow_warnings() as warned, ThreadPoolExecutor(cpu_count()) as pool:
        pixels = pool.map(lambda i: _shrunk(images, i, geometry), range(shape[0]))
        for index, image in enumerate(pixels):
            if isinstance(image, InputError):
                bad[images.ids[index]] = str(image)
            else:
                store[index] = image
            work.at(index + 1, shape[0], "decoded %d of %d images of %s", index + 1, shape[0], images.dataset)
    if bad:
        raise BadImagesError(images.dataset, bad)
    store.flush()
    if warned:
        words = notes_path(path)
        words.write_text("".join(f"{line}\n" for line in sorted(warned)), encoding="utf-8")
        logger.info(
            "%s: %d warnings of Pillow about images that it reads are in %s", images.dataset, len(warned), words
        )


def _shrunk(images: LabelledImages, index: int, geometry: Geometry) -> np.ndarray | InputError:
    """Decode one image; an error is returned, so that one run through a dataset finds all that are bad."""
    try:
        return shrink(images.read(index), geometry)
    except InputError as error:
        return error
