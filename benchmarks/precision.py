"""Images per second of backbones by precision and memory layout.

``python -m benchmarks.precision [BACKBONE ...]``: the paper's, or those that are named; random weights, one thread.
What `trainables.device` and `trainables.backbones` choose rests on it.
"""

import argparse
import sys
import time
from collections.abc import Iterable

import numpy as np
import torch

from trainables.config import PAPER_BACKBONES, DataConfig, ModelConfig, Precision, TrialConfig
from trainables.training.epoch import Examples, Learner, evaluate, new_learner, train_epoch

CLASSES = 37


def learner(backbone: str, precision: Precision, layout: torch.memory_format, batch: int, size: int | None) -> Learner:
    """Return a learner from random weights in the given layout."""
    made = new_learner(
        TrialConfig(
            data=DataConfig(dataset="digits"),
            model=ModelConfig(backbone=backbone, weights="none", image_size=size, precision=precision),
            learning_rate=1e-4,
            batch_size=batch,
            epochs=1,
        ),
        CLASSES,
    )
    made.network.model.to(memory_format=layout)
    return made


def images_per_second(made: Learner, images: int) -> tuple[float, float]:
    """Return images per second in training and in evaluation, each after a first pass that is not counted."""
    size = made.geometry.crop
    generator = np.random.default_rng(0)
    pixels = generator.integers(0, 256, (images, 3, size, size), dtype=np.uint8)
    examples = Examples(pixels, torch.from_numpy(generator.integers(0, CLASSES, images)))
    first, everything = np.arange(made.config.batch_size), np.arange(images)
    train_epoch(made, examples, first, 1)
    begun = time.perf_counter()
    train_epoch(made, examples, everything, 1)
    trained = time.perf_counter()
    evaluate(made, examples, first)
    evaluated = time.perf_counter()
    evaluate(made, examples, everything)
    return images / (trained - begun), images / (time.perf_counter() - evaluated)


def speeds(backbones: Iterable[str], batch: int, images: int, size: int | None) -> None:
    """Print the table of speeds."""
    ways: list[tuple[Precision, torch.memory_format]] = [
        (precision, layout)
        for precision in ("fp32", "bf16")
        for layout in (torch.contiguous_format, torch.channels_last)
    ]
    names = [f"{precision}{' channels_last' if layout == torch.channels_last else ''}" for precision, layout in ways]
    sys.stdout.write(f"| training / evaluation, images/s | {' | '.join(names)} |\n|---|{'---:|' * len(ways)}\n")
    for backbone in backbones:
        cells = []
        for precision, layout in ways:
            trained, evaluated = images_per_second(learner(backbone, precision, layout, batch, size), images)
            cells.append(f"{trained:.1f} / {evaluated:.1f}")
        sys.stdout.write(f"| {backbone} | {' | '.join(cells)} |\n")
        sys.stdout.flush()


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("backbones", nargs="*", default=PAPER_BACKBONES)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--images", type=int, default=16)
    parser.add_argument("--image-size", type=int, help="default: each backbone's own")
    options = parser.parse_args()
    speeds(options.backbones, options.batch, options.images, options.image_size)


if __name__ == "__main__":
    main()
