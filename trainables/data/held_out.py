"""The held-out test split: the one module that reads it. Nothing that a trial runs may import it."""

from trainables.config import DataConfig
from trainables.data.datasets import LabelledImages, different_classes, read_split, training_images


def held_out_images(
    data: DataConfig,
    data_dir: str | None = None,
    training: LabelledImages | None = None,
    *,
    download: bool = True,
) -> LabelledImages:
    """Return the test split of `data`: the dataset's own, or the seeded share that training never sees.

    `training` is the training split, where it has been read already.

    Raises:
        InputError: It is missing or not what the study recorded, or its classes are not those of the training split.
    """
    images = read_split(data, data_dir, train=False, download=download)
    expected = (training or training_images(data, data_dir, download=download)).classes
    if images.classes != expected:
        raise different_classes(data, "test", images.classes, expected)
    return images
