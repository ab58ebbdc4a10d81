"""How fast a network trains and judges on this machine: a step of each, of the real network at the real batch."""

import dataclasses
import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch

from trainables.config import DataConfig, FreezeMode, MachineConfig, ModelConfig, TrialConfig
from trainables.networks.backbones import build
from trainables.networks.identity import architecture_of, geometry_of, resolve
from trainables.training.device import is_out_of_memory, release_memory
from trainables.training.epoch import Examples, learner_of, predict, train_epoch

PATIENCE_S = 3.0
"""A step that would take longer than this is measured with fewer images, and taken to grow with them."""
_FEW = 4
"""Images of the first step; batch norm needs two."""


@dataclass(frozen=True)
class Speed:
    """What an image costs."""

    training_s: float
    """A step of training, in s per image."""
    judging_s: float
    """A pass without gradients, in s per image."""
    images: int
    """Images of the steps that were measured: the real batch, or fewer where it would have taken too long."""
    device: str


def measure(
    model: ModelConfig, mode: FreezeMode, batch_size: int, *, classes: int, threads: int, data_dir: str | None
) -> Speed:
    """Measure a network in a freeze mode, without its weights, since no time depends on them.

    Raises:
        InputError: The backbone or its image size cannot be used.
        Exception: What a user's own network raises.
    """
    if architecture_of(model.backbone):
        model = dataclasses.replace(model, weights="none", weights_name=None, weights_sha256=None)
    model = resolve(model, data_dir)
    side = geometry_of(model).crop
    images = _FEW
    training_s, judging_s = _measure(model, mode, images, side, classes, threads, data_dir)
    while images < batch_size and training_s * (size := min(batch_size, 4 * images)) <= PATIENCE_S:
        try:
            training_s, judging_s = _measure(model, mode, size, side, classes, threads, data_dir)
        except Exception as error:
            if not is_out_of_memory(error):
                raise
            release_memory()
            break
        images = size
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else f"{threads} CPU threads"
    return Speed(training_s, judging_s, images, device)


def _measure(
    model: ModelConfig, mode: FreezeMode, images: int, side: int, classes: int, threads: int, data_dir: str | None
) -> tuple[float, float]:
    """Return the seconds per image of a step of training and of a pass that judges."""
    config = TrialConfig(
        data=DataConfig(dataset="digits"),
        model=model,
        learning_rate=1e-4,
        batch_size=images,
        epochs=1,
        freeze_mode=mode,
        machine=MachineConfig(data_dir=data_dir, threads=threads),
    )
    learner = learner_of(config, build(model, classes, data_dir=data_dir, seed=0))
    drawn = np.random.default_rng(0)
    pixels = drawn.integers(0, 256, (images, 3, side, side), dtype=np.uint8)
    examples = Examples(pixels, torch.from_numpy(drawn.integers(0, classes, images)))
    every = np.arange(images)

    def step() -> None:
        train_epoch(learner, examples, every, 1)

    def judge() -> None:
        predict(learner, examples, every)

    return _seconds(step) / images, _seconds(judge) / images


def _seconds(work: Callable[[], None]) -> float:
    """Return what `work` takes once it is warm: the better of two."""
    work()
    taken = []
    for _ in range(2):
        begun = time.perf_counter()
        work()
        taken.append(time.perf_counter() - begun)
    return min(taken)
