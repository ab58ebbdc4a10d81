"""Decoded images, once a machine: a memory-mapped array that all trials of all studies share."""

import hashlib
import logging
import os
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from filelock import FileLock
from numpy.lib.format import open_memmap

from trainables.config import data_root
from trainables.datasets import LabelledImages
from trainables.errors import InputError
from trainables.transforms import Geometry, shrink

logger = logging.getLogger(__name__)

_PROGRESS_S = 5.0
_SHOWN = 3


class BadImagesError(InputError):
    """Images of a dataset cannot be read."""

    def __init__(self, dataset: str, reasons: dict[str, str]) -> None:
        self.reasons = reasons
        shown = "; ".join(list(reasons.values())[:_SHOWN])
        more = f"; and {len(reasons) - _SHOWN} more" if len(reasons) > _SHOWN else ""
        super().__init__(f"--dataset {dataset}: {shown}{more}")


def open_store(images: LabelledImages, geometry: Geometry, data_dir: str | None) -> np.ndarray:
    """Return the pixels of `images` at `geometry`, (N, 3, crop, crop) uint8, read-only and memory-mapped.

    They are decoded at the first call on a machine, by one process, and found again by every later one.

    Raises:
        BadImagesError: Images cannot be read; nothing is left behind.
    """
    path = store_path(images, geometry, data_dir)
    path.parent.mkdir(parents=True, exist_ok=True)
    shape = (len(images.ids), 3, geometry.crop, geometry.crop)
    with FileLock(path.with_suffix(".lock")):
        store = _open_whole(path, shape)
        if store is None:
            _build(path, shape, images, geometry)
            store = np.load(path, mmap_mode="r")
    return store


def store_path(images: LabelledImages, geometry: Geometry, data_dir: str | None) -> Path:
    """Return where the pixels lie: a name made of the images, their files' sizes and times, and the geometry."""
    digest = hashlib.sha256(f"{images.fingerprint} {geometry}".encode())
    for path in images.paths or ():
        status = path.stat()
        digest.update(f"{status.st_size} {status.st_mtime_ns}\n".encode())
    return data_root(data_dir) / "stores" / f"{digest.hexdigest()[:32]}.npy"


def _open_whole(path: Path, shape: tuple[int, ...]) -> np.ndarray | None:
    """Open a store that is there and whole; None otherwise."""
    try:
        store: np.ndarray = np.load(path, mmap_mode="r")
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        logger.warning("the image store %s is damaged (%s) and is built again", path, error)
        return None
    return store if store.shape == shape and store.dtype == np.uint8 else None


def _build(path: Path, shape: tuple[int, ...], images: LabelledImages, geometry: Geometry) -> None:
    # The lock is held: whatever a kill left under this name is written over.
    partial = path.with_name(f"{path.stem}.partial")
    told, bad = time.monotonic(), dict[str, str]()
    try:
        store = open_memmap(partial, mode="w+", dtype=np.uint8, shape=shape)
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            pixels = pool.map(lambda i: _shrunk(images, i, geometry), range(shape[0]))
            for index, image in enumerate(pixels):
                if isinstance(image, InputError):
                    bad[images.ids[index]] = str(image)
                else:
                    store[index] = image
                if time.monotonic() - told > _PROGRESS_S:
                    told = time.monotonic()
                    logger.info("decoded %d of %d images of %s", index + 1, shape[0], images.dataset)
        if bad:
            raise BadImagesError(images.dataset, bad)
        store.flush()
        del store
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def _shrunk(images: LabelledImages, index: int, geometry: Geometry) -> np.ndarray | InputError:
    """Decode one image; an error is returned, so that one run through a dataset finds all that are bad."""
    try:
        return shrink(images.read(index), geometry)
    except InputError as error:
        return error
