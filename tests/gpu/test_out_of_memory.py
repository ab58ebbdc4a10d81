"""A batch that is too large for the card is trained on in parts, and it is the same batch."""

import dataclasses
import math
from collections.abc import Generator
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.gpu.card import NEEDS_CARD, trial
from trainables.config import EpochResult, TrialConfig
from trainables.training import memory
from trainables.training.epoch import Examples, new_learner, train_epoch
from trainables.training.micro_batches import in_memory
from trainables.training.trial import run_trial

pytestmark = NEEDS_CARD

BATCH = 64
ROOM = 40
"""Images in a training step that the card is left memory for: half a batch, and what convolutions want besides."""


def config(folder: Path) -> TrialConfig:
    return trial(
        folder,
        "tests.gpu.backbones:wide",
        precision="fp32",
        image_size=224,
        batch_size=BATCH,
        label_fraction=0.2,
    )


def leave_room(asked: TrialConfig) -> None:
    """Let this process have as much of the card as a step on `ROOM` images takes."""
    need = memory.estimate(asked.model, asked.freeze_mode, classes=10, augment="none", width=4)
    _, total = torch.cuda.mem_get_info()
    torch.cuda.set_per_process_memory_fraction((torch.cuda.memory_allocated() + need.bytes_at(ROOM)) / total)


def steps_on_one_batch(asked: TrialConfig) -> Generator[float, None, None]:
    """Take three steps of training on the same batch and yield the loss at each."""
    images = np.random.default_rng(0).integers(256, size=(BATCH, 3, 224, 224), dtype=np.uint8)
    examples = Examples(images, torch.arange(BATCH) % 10)
    learner = new_learner(asked, 10)
    for epoch in (1, 2, 3):
        yield train_epoch(learner, examples, np.arange(BATCH), epoch)


def test_a_batch_that_does_not_fit_has_the_loss_of_the_whole(tmp_path: Path) -> None:
    asked = config(tmp_path)
    whole = list(steps_on_one_batch(asked))

    leave_room(asked)
    fitted = list(in_memory(asked, steps_on_one_batch))

    sizes = {fitting.machine.micro_batch for fitting, _ in fitted}
    assert len(sizes) == 1
    assert sizes < {8, 16, 32}
    # Convolutions in TF32 by another algorithm: ten bits of each product, averaged over 50,000 pixels.
    assert fitted[0][1] == pytest.approx(whole[0], rel=1e-3)
    assert [loss for _, loss in fitted] == pytest.approx(whole, rel=1e-2)
    assert len(set(whole)) == 3


def test_a_trial_whose_memory_shrinks_continues_from_its_checkpoint(tmp_path: Path) -> None:
    asked = config(tmp_path)
    saved: list[bytes] = []

    def begin(fitting: TrialConfig) -> Generator[EpochResult, None, None]:
        yield from run_trial(fitting, resume_from=saved[-1] if saved else None, save=saved.append)

    running = in_memory(asked, begin)
    whole, first = next(running)
    leave_room(asked)
    rest = list(running)

    assert whole == asked
    assert [result.epoch for _, result in rest] == [1, 2, 3]
    assert rest[0][1] == first
    assert all(math.isfinite(result.train_loss or math.nan) for _, result in rest)
    fitting = rest[-1][0]
    assert fitting.machine.micro_batch in {8, 16, 32}
    assert dataclasses.replace(fitting, machine=asked.machine) == asked
