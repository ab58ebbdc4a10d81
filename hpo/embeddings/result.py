"""What embeddings are: an array, and what each of its rows is of."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Embeddings:
    """Embeddings of images, in the dataset's order: training images first, then test images; of a folder by name."""

    array: NDArray[np.float32]
    """(N, D), read-only: what the network has in front of its head, not scaled."""
    ids: tuple[str, ...]
    """A name for each image: its path below the dataset's folder, or its number."""
    labels: NDArray[np.int64]
    """(N,) indices into `classes`; -1 of images without a label."""
    classes: tuple[str, ...]
    """Empty where images have no labels."""
    splits: tuple[str, ...]
    """Of each image ``train`` or ``test``; empty where there are no splits."""
    paths: tuple[Path | None, ...]
    """The images' files; None of those that have none of their own."""
    about: Mapping[str, Any]
    """What made them: the backbone, its weights with their digest, how images were prepared, the release of hpo."""
    pixels: tuple[NDArray[np.uint8], ...] = field(repr=False)
    """(n, 3, S, S) of each split, read-only and memory-mapped: what the network saw."""

    def __len__(self) -> int:
        """Return how many images there are."""
        return len(self.ids)

    def class_of(self, row: int) -> str | None:
        """Return the name of an image's class; None: it has no label."""
        label = int(self.labels[row])
        return self.classes[label] if label >= 0 else None

    def seen(self, rows: Sequence[int]) -> list[NDArray[np.uint8]]:
        """Return what the network saw of the images in `rows`, (3, S, S) each."""
        starts = np.cumsum([0, *(len(part) for part in self.pixels)])
        parts = np.searchsorted(starts, rows, side="right") - 1
        return [np.asarray(self.pixels[part][row - starts[part]]) for part, row in zip(parts, rows, strict=True)]
