"""Which images are embedded: the splits of a dataset, or all images in a folder."""

import dataclasses
import logging
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from hpo.choices import EmbedSplit
from trainables.config import DataConfig, Exif
from trainables.data.decoding import decode
from trainables.data.folders import images_below, readable_name
from trainables.errors import InputError

if TYPE_CHECKING:
    from trainables.data.datasets import LabelledImages

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Part:
    """Images of one split."""

    split: str
    """``train`` (with the validation images), ``test``, or empty where there are no splits."""
    images: "LabelledImages"
    """Those of a folder without classes have the label -1."""


def of_dataset(data: DataConfig, split: EmbedSplit, data_dir: str | None) -> tuple[Part, ...]:
    """Return the splits of a dataset that are asked for; the test images are not opened for ``train``.

    Images that are not those which a study recorded are taken as they are now, with a warning.

    Raises:
        InputError: The dataset is unknown or missing.
    """
    from trainables.data.datasets import ChangedImagesError

    try:
        return _splits(data, split, data_dir)
    except ChangedImagesError:
        logger.warning(
            "%s: the images are not those that the study was started with, so its split may be another one: what is"
            " called test here may have been trained on",
            data.dataset,
        )
        as_it_is = dataclasses.replace(data, splits_sha256=None, train_sha256=None, test_sha256=None)
        return _splits(as_it_is, split, data_dir)


def _splits(data: DataConfig, split: EmbedSplit, data_dir: str | None) -> tuple[Part, ...]:
    from trainables.data import splits
    from trainables.data.datasets import training_images
    from trainables.data.held_out import held_out_images

    training = training_images(data, data_dir)
    if data.splits_sha256 is not None:
        # All that studies of hpo 0.1.0 recorded of their images.
        splits.split(training, data)
    parts = [Part("train", training)] if split != "test" else []
    if split != "train":
        parts.append(Part("test", held_out_images(data, data_dir, training)))
    return tuple(parts)


def of_folder(folder: Path, exif: Exif) -> tuple[Part, ...]:
    """Return all images in a folder and below it, found as a dataset's are, without labels.

    Raises:
        InputError: There is no such folder, it cannot be read, or holds no images.
    """
    from trainables.data.datasets import LabelledImages

    folder = folder.expanduser().absolute()
    name = readable_name(str(folder))
    if not folder.is_dir():
        raise InputError(f"--images {name}: there is no such folder.")
    found, left_out, dangling = images_below(folder)
    others = ", ".join(f"{count} {what}" for what, count in left_out.items())
    if not found:
        raise InputError(
            f"--images {name}: the folder holds no images" + (f" (left out: {others})." if others else ".")
        )
    if others:
        logger.info("%s: left out: %s", name, others)
    for link in dangling:
        logger.warning("%s is a link to what is not there", readable_name(str(link)))
    images = LabelledImages(
        dataset=name,
        ids=tuple(readable_name(str(path.relative_to(folder))) for path in found),
        labels=np.full(len(found), -1, np.int64),
        classes=(),
        read=lambda index: decode(found[index], exif),
        paths=tuple(found),
        exif=exif,
    )
    return (Part("", images),)


def without(part: Part, names: set[str]) -> Part:
    """Return the part without the images of those names.

    Raises:
        InputError: None is left.
    """
    kept = np.asarray([i for i, name in enumerate(part.images.ids) if name not in names], np.int64)
    if not len(kept):
        raise InputError(f"{part.images.dataset}: no image can be read.")
    return Part(part.split, part.images.subset(kept))
