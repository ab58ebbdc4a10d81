"""The held-out test split: the one module that reads it. Nothing that a trial runs may import it."""

from trainables.config import DataConfig
from trainables.data.datasets import LabelledImages, read_split, training_images
from trainables.errors import InputError


def held_out_images(data: DataConfig, data_dir: str | None = None) -> LabelledImages:
    """Return the test split of `data`: the dataset's own, or the seeded share that training never sees.

    Raises:
        InputError: It is missing or not what the study recorded, or its classes are not those of the training split.
    """
    images = read_split(data, data_dir, train=False)
    expected = training_images(data, data_dir).classes
    if images.classes != expected:
        differing = sorted(set(images.classes) ^ set(expected))
        raise InputError(
            f"--dataset {data.dataset}: training and test split have different classes ({', '.join(differing)})."
        )
    return images
