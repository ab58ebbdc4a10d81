"""Look at every image of a dataset before a study exists, so that no trial finds what cannot be read."""

import dataclasses
import logging

from hpo.errors import UsageError
from trainables.config import DataConfig, Geometry
from trainables.data.datasets import training_images
from trainables.data.held_out import held_out_images
from trainables.data.image_store import BadImagesError, open_store

logger = logging.getLogger(__name__)


def readable(data: DataConfig, geometry: Geometry, *, skip_bad: bool) -> DataConfig:
    """Return `data` without the images that cannot be read, where there are any and `skip_bad` allows it.

    What is decoded here is what the trials and the retrain will use: nothing is decoded twice.

    Raises:
        UsageError: Images cannot be read, and `skip_bad` is off; the message names them.
        InputError: The dataset cannot be used.
    """
    reasons: dict[str, str] = {}
    for read in (training_images, held_out_images):
        try:
            open_store(read(data), geometry, data.data_dir, data.cache_bytes)
        except BadImagesError as error:
            if not skip_bad:
                raise UsageError(f"{error}. --skip-bad-images leaves such images out.") from error
            reasons |= error.reasons
    if not reasons:
        return data
    for reason in reasons.values():
        logger.warning("left out: %s", reason)
    return readable(dataclasses.replace(data, skipped=tuple(sorted(reasons))), geometry, skip_bad=False)
