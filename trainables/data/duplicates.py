"""Images that are the same, byte for byte, in several splits: what is learned by heart is not measured."""

import hashlib
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from joblib import cpu_count

from trainables.data.datasets import LabelledImages


def copies(splits: Sequence[LabelledImages], *, within: bool = False) -> list[list[int]]:
    """Return for each split the indices of its images whose bytes are those of an image of an earlier split.

    Only files of the same size are read. Images that have no files are compared with none.

    Args:
        splits: In the order in which an image is to be kept.
        within: Whether the bytes of an earlier image of the same split count, too.
    """
    sizes = [[_size(path) for path in images.paths or ()] for images in splits]
    files = Counter(size for of_split in sizes for size in of_split)
    alike = [
        [(index, path) for index, path in enumerate(images.paths or ()) if files[of_split[index]] > 1]
        for images, of_split in zip(splits, sizes, strict=True)
    ]
    found, seen = list[list[int]](), set[bytes]()
    with ThreadPoolExecutor(cpu_count()) as pool:
        for candidates in alike:
            digests = list(pool.map(_digest, (path for _, path in candidates)))
            new, known = set[bytes](), list[int]()
            for (index, _), digest in zip(candidates, digests, strict=True):
                if digest in seen or (within and digest in new):
                    known.append(index)
                elif digest is not None:
                    new.add(digest)
            found.append(known)
            seen |= new
    return found


def _size(path: Path) -> int | None:
    try:
        return path.stat().st_size
    except OSError:
        return None


def _digest(path: Path) -> bytes | None:
    """SHA-256 of a file; None: it cannot be read, which is reported when it is decoded."""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").digest()
    except OSError:
        return None
