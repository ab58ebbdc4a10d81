"""Arrays that a machine computes once: memory-mapped files that all trials of all studies share."""

import logging
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from filelock import FileLock, Timeout
from numpy.lib.format import open_memmap

from trainables.config import data_root

logger = logging.getLogger(__name__)

KINDS = ("images", "features")


@dataclass(frozen=True)
class StoredArray:
    """A file of the store."""

    path: Path
    kind: str
    size: int
    """Bytes."""
    used_at: float
    """When it was opened last, in seconds since 1970."""


def open_array(path: Path, fits: Callable[[np.ndarray], bool], build: Callable[[Path], None], bound: int) -> np.ndarray:
    """Return the array in `path`, read-only and memory-mapped, built first where it is missing or damaged.

    One process builds it; the others wait. What a kill leaves half-built is written over by the next.

    Args:
        path: A ``.npy`` file in one of the store's folders.
        fits: Whether an array that is there is the one that is wanted.
        build: Writes the array to the path that it is given.
        bound: Bytes that the store may hold; the least recently used files make room for a new one.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(path.with_suffix(".lock")):
        array = _open_whole(path, fits)
        if array is None:
            partial = path.with_suffix(".partial")
            try:
                build(partial)
                partial.replace(path)
            finally:
                partial.unlink(missing_ok=True)
            array = np.load(path, mmap_mode="r")
            evict(path.parents[1], bound)
        os.utime(path)
    return array


def new_array(path: Path, dtype: type[np.generic], shape: tuple[int, ...]) -> np.memmap:
    """Create the ``.npy`` file `path` with room for an array, and return it, writable and memory-mapped.

    Raises:
        OSError: The disk has no room; without asking for it, writing would end the process with a bus error.
    """
    array: np.memmap = open_memmap(path, mode="w+", dtype=dtype, shape=shape)
    with path.open("r+b") as file:
        try:
            os.posix_fallocate(file.fileno(), 0, path.stat().st_size)
        except OSError as error:
            raise OSError(error.errno, f"{error.strerror} ({path.stat().st_size / 2**30:.1f} GB)", str(path)) from error
    return array


def store_dir(kind: str, data_dir: str | None) -> Path:
    """Return the folder of the arrays of a kind, one of `KINDS`."""
    return data_root(data_dir) / "stores" / kind


def notes_path(array: Path) -> Path:
    """Return where what was noted while an array was built lies, if anything was."""
    return array.with_suffix(".txt")


def stored_arrays(stores: Path) -> list[StoredArray]:
    """Return the arrays below the folder `stores`, the least recently used first."""
    found = []
    for kind in KINDS:
        for path in (stores / kind).glob("*.npy"):
            try:
                status = path.stat()
            except FileNotFoundError:
                continue  # Another process has evicted it in this moment.
            found.append(StoredArray(path, kind, status.st_size, status.st_mtime))
    return sorted(found, key=lambda array: array.used_at)


def evict(stores: Path, bound: int) -> list[StoredArray]:
    """Remove the least recently used arrays until the others take at most `bound` bytes.

    What a process is just building or opening stays in any case. Processes that have one open keep it: its file goes
    with the last of them. What a kill left half-built goes, too.
    """
    for partial in stores.glob("*/*.partial"):
        _remove_unlocked(partial)
    arrays = stored_arrays(stores)
    held = sum(array.size for array in arrays)
    removed = []
    for array in arrays:
        if held <= bound:
            break
        if _remove_unlocked(array.path):
            notes_path(array.path).unlink(missing_ok=True)
            held -= array.size
            removed.append(array)
    return removed


def _remove_unlocked(path: Path) -> bool:
    """Remove a file of the store and its lock, unless a process holds that; return whether it did."""
    lock = path.with_suffix(".lock")
    try:
        with FileLock(lock, timeout=0):
            path.unlink(missing_ok=True)
            lock.unlink(missing_ok=True)
    except Timeout:
        logger.debug("%s is in use", path)
        return False
    return True


def _open_whole(path: Path, fits: Callable[[np.ndarray], bool]) -> np.ndarray | None:
    try:
        array: np.ndarray = np.load(path, mmap_mode="r")
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        logger.warning("the store %s is damaged (%s) and is built again", path, error)
        return None
    return array if fits(array) else None
