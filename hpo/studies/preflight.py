"""Look at every image of a dataset before a study exists, so that no trial finds what cannot be read."""

import dataclasses
import logging

from hpo.errors import UsageError
from hpo.spec import RunOptions
from trainables.config import DataConfig, Geometry
from trainables.data.datasets import training_images
from trainables.data.held_out import held_out_images
from trainables.data.image_store import BadImagesError, open_store

logger = logging.getLogger(__name__)

_SPLITS = {"train": training_images, "test": held_out_images}


def identified(data: DataConfig, options: RunOptions) -> DataConfig:
    """Return `data` with the digests of what lies in its splits.

    Raises:
        InputError: The dataset cannot be used.
    """
    return dataclasses.replace(
        data,
        train_sha256=training_images(data, options.data_dir).content_sha256,
        test_sha256=held_out_images(data, options.data_dir).content_sha256,
    )


def readable(data: DataConfig, geometry: Geometry, options: RunOptions, *, skip_bad: bool) -> DataConfig:
    """Return `data` without the images that cannot be read, where there are any and `skip_bad` allows it.

    What is decoded here is what the trials and the retrain will use: nothing is decoded twice.

    Raises:
        UsageError: Images of either split cannot be read, and `skip_bad` is off; the message names them.
        InputError: The dataset cannot be used, or is not what its study recorded.
    """
    bad: dict[str, str] = {}
    for split, read in _SPLITS.items():
        try:
            open_store(read(data, options.data_dir), geometry, options.data_dir, options.cache_bytes)
        except BadImagesError as error:
            bad |= {f"{split}/{name}": reason for name, reason in error.reasons.items()}
    if not bad:
        return data
    if not skip_bad:
        raise UsageError(f"{BadImagesError(data.dataset, bad)}. --skip-bad-images leaves such images out.")
    for name, reason in bad.items():
        logger.warning("left out of the %s split: %s", name.partition("/")[0], reason)
    return readable(dataclasses.replace(data, skipped_images=tuple(sorted(bad))), geometry, options, skip_bad=False)
