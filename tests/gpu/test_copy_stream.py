"""Batches that travel while the card computes arrive whole, are not overwritten, and take no more memory each epoch."""

from collections.abc import Iterable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from tests.gpu.card import NEEDS_CARD, trial
from trainables.training.epoch import Examples, Learner, _ahead, new_learner, on_device, train_epoch

pytestmark = NEEDS_CARD

SIZE, IMAGES, BATCHES = 96, 1000, 100


def examples(image_size: int = SIZE) -> Examples:
    generator = np.random.default_rng(0)
    pixels = generator.integers(256, size=(IMAGES, 3, image_size, image_size), dtype=np.uint8)
    return Examples(pixels, torch.from_numpy(generator.integers(10, size=IMAGES)))


def seen(learner: Learner, batches: Iterable[tuple[Tensor, Tensor]]) -> list[tuple[Tensor, ...]]:
    """Return copies of each batch, made when it arrives and once more behind much computation."""
    square = torch.ones(2048, 2048, device=learner.compute.device)
    copies: list[tuple[Tensor, ...]] = []
    for images, labels in batches:
        early = images.clone(), labels.clone()
        for _ in range(20):
            square = (square @ square).clamp(max=1)
        # A card is far behind this process by now; the batch must lie there until it has come here.
        copies.append((*early, images.clone(), labels.clone()))
    return copies


def test_batches_that_were_sent_ahead_are_those_that_were_asked_for(tmp_path: Path) -> None:
    learner, given = new_learner(trial(tmp_path, precision="fp32"), 10), examples()
    generator = np.random.default_rng(1)
    parts = [generator.choice(IMAGES, int(generator.integers(2, 65)), replace=False) for _ in range(BATCHES)]

    ahead = seen(learner, _ahead(learner, given, iter(parts)))
    plain = [on_device(learner, given, part) for part in parts]

    assert len(ahead) == BATCHES
    for copies, (images, labels) in zip(ahead, plain, strict=True):
        assert images.device.type == learner.compute.device.type
        for copy, expected in zip(copies, (images, labels, images, labels), strict=True):
            assert torch.equal(copy, expected)


def test_later_epochs_take_no_more_memory_than_the_first(tmp_path: Path) -> None:
    given = examples(image_size=224)
    learner = new_learner(trial(tmp_path, precision="fp32", image_size=224), 10)
    reserved = []
    for epoch in range(1, 15):
        train_epoch(learner, given, np.arange(256), epoch)
        reserved.append(torch.cuda.memory_reserved())

    # A stream keeps memory of its own, so that a new one for each epoch would keep two batches of 10 MB each time. How
    # far this process runs ahead of the card varies.
    assert reserved[-1] - reserved[1] < 100e6
