"""How the training split is divided: a stratified, seeded share validates, the rest trains."""

import csv
import hashlib
import io
from dataclasses import dataclass
from typing import Any

import numpy as np

from trainables.config import DataConfig
from trainables.data.datasets import ChangedImagesError, LabelledImages, stratified_share
from trainables.errors import InputError
from trainables.predictions import pack


@dataclass(frozen=True)
class Splits:
    """Indices into the training split's images."""

    train: np.ndarray
    """(T,) int64, sorted."""
    validation: np.ndarray
    """(V,) int64, sorted."""
    fingerprint: str
    """SHA-256 over the names and labels of both, in their order."""


def split(images: LabelledImages, data: DataConfig) -> Splits:
    """Divide the training split by `data`'s fractions and seed.

    Validation is the dataset's own, or takes `val_fraction` of each class, at least one image and never all;
    `label_fraction` then keeps that share of each class's remaining images. A smaller label fraction keeps a subset of
    what a larger one keeps, and validation is the same for all.

    Raises:
        ChangedImagesError: The images are not those that the study recorded.
        InputError: A fraction is out of range.
    """
    _check_fractions(data)
    validation = images.validation
    if validation is None:
        validation = stratified_share(images.labels, data.val_fraction, data.split_seeds.validation)
    rest = np.setdiff1d(np.arange(len(images.labels)), validation)
    kept = _keep(rest, images.labels, data.label_fraction, data.split_seeds.labels)
    fingerprint = _fingerprint(images, kept, validation)
    if data.splits_sha256 is not None and fingerprint != data.splits_sha256:
        raise ChangedImagesError(
            f"--dataset {data.dataset}: the files on this machine are not those that the study was started with;"
            " restore them, or start a study under another name."
        )
    return Splits(kept, validation, fingerprint)


def summary(images: LabelledImages, splits: Splits) -> dict[str, Any]:
    """Return what a study records of its splits, ready for JSON."""
    return {
        "train": len(splits.train),
        "validation": len(splits.validation),
        "validation_is_given": images.validation is not None,
        "classes": list(images.classes),
        "sha256": splits.fingerprint,
        "validation_labels": pack(images.labels[splits.validation]),
    }


def listing(images: LabelledImages, splits: Splits) -> str:
    """Return a CSV table of the images of both splits: ``split,image,class``."""
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(["split", "image", "class"])
    for name, indices in (("train", splits.train), ("validation", splits.validation)):
        writer.writerows([name, images.ids[i], images.classes[images.labels[i]]] for i in indices)
    return buffer.getvalue()


def _check_fractions(data: DataConfig) -> None:
    if not 0 < data.val_fraction < 1:
        raise InputError(f"--val-fraction must lie between 0 and 1, both excluded, but is {data.val_fraction}.")
    if not 0 < data.label_fraction <= 1:
        raise InputError(f"--label-fraction must be above 0 and at most 1, but is {data.label_fraction}.")


def _keep(indices: np.ndarray, labels: np.ndarray, fraction: float, seed: int | tuple[int, ...]) -> np.ndarray:
    """Return `fraction` of each class among `indices`, at least one image."""
    if fraction == 1:
        return indices
    generator = np.random.default_rng(seed)
    kept = []
    for label in np.unique(labels[indices]):
        members = generator.permutation(indices[labels[indices] == label])
        kept.append(members[: max(1, round(len(members) * fraction))])
    return np.sort(np.concatenate(kept))


def _fingerprint(images: LabelledImages, *parts: np.ndarray) -> str:
    digest = hashlib.sha256()
    for part in parts:
        digest.update(images.subset(part).fingerprint.encode())
    return digest.hexdigest()
