"""The look at held-out test images: what a retrained network says of each of them."""

import dataclasses
from dataclasses import dataclass

import numpy as np
import torch

from trainables.data.held_out import held_out_images
from trainables.data.image_store import open_store
from trainables.training.epoch import Examples, Learner, predict


@dataclass(frozen=True)
class TestPredictions:
    """Labels and predictions of every held-out test image."""

    labels: np.ndarray
    """(N,) int64."""
    predicted: np.ndarray
    """(N,) int64, the class of the largest logit."""
    ids: tuple[str, ...]
    classes: tuple[str, ...]


def look_at_test(learner: Learner) -> TestPredictions:
    """Classify the held-out test images of the learner's dataset.

    Raises:
        InputError: The test split is missing or does not fit the training split.
    """
    machine = learner.config.machine
    images = held_out_images(learner.config.data, machine.data_dir)
    pixels = open_store(images, learner.geometry, machine.data_dir, machine.cache_bytes)
    examples = Examples(pixels, torch.from_numpy(images.labels))
    whole = dataclasses.replace(learner, tail=None)
    predicted = predict(whole, examples, np.arange(len(images.labels))).argmax(dim=1).numpy()
    return TestPredictions(images.labels, predicted, images.ids, images.classes)
