"""How many images a dataset has in each split, for an estimate of what they cost; nothing is decoded or fetched."""

import dataclasses

from trainables.config import DataConfig
from trainables.data.datasets import training_images
from trainables.data.splits import split


def count_images(data: DataConfig, data_dir: str | None) -> tuple[int, int, int]:
    """Return how many images train and validate, and how many classes they have.

    Raises:
        InputError: The dataset is not on this machine, or cannot be used.
    """
    exif = "turn" if data.dataset.startswith("imagefolder:") else "ignore"
    data = dataclasses.replace(data, layouts="recognised", exif=exif)  # type: ignore[arg-type] # both are literals
    images = training_images(data, data_dir, download=False)
    divided = split(images, data)
    return len(divided.train), len(divided.validation), len(images.classes)
