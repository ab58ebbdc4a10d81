"""Images a second of each backbone by precision and memory layout, and what the precision does to accuracy.

``python -m benchmarks.precision`` prints a table of training and one of five seeds' accuracies; random weights, one
thread. What `trainables.device` and `trainables.learning` choose rests on it.
"""

import argparse
import dataclasses
import statistics
import sys
import tempfile
import time

import numpy as np
import torch

from trainables.config import PAPER_BACKBONES, DataConfig, ModelConfig, Precision, TrialConfig
from trainables.learning import Examples, Learner, evaluate, new_learner, train_epoch
from trainables.trial import run_trial

CLASSES = 37


def learner(backbone: str, precision: Precision, layout: torch.memory_format, batch: int, size: int | None) -> Learner:
    """Return a learner from random weights in the given layout."""
    made = new_learner(
        TrialConfig(
            data=DataConfig(dataset="digits"),
            model=ModelConfig(backbone=backbone, weights="none", image_size=size),
            learning_rate=1e-4,
            batch_size=batch,
            epochs=1,
            precision=precision,
        ),
        CLASSES,
    )
    made.network.model.to(memory_format=layout)
    return made


def images_per_second(made: Learner, images: int) -> tuple[float, float]:
    """Return images a second in training and in evaluation, each after a first pass that is not counted."""
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


def speeds(batch: int, images: int, size: int | None) -> None:
    """Print the table of speeds."""
    ways: list[tuple[Precision, torch.memory_format]] = [
        (precision, layout)
        for precision in ("fp32", "bf16")
        for layout in (torch.contiguous_format, torch.channels_last)
    ]
    names = [f"{precision}{' channels_last' if layout == torch.channels_last else ''}" for precision, layout in ways]
    sys.stdout.write(f"| training / evaluation, images/s | {' | '.join(names)} |\n|---|{'---:|' * len(ways)}\n")
    for backbone in PAPER_BACKBONES:
        cells = []
        for precision, layout in ways:
            trained, evaluated = images_per_second(learner(backbone, precision, layout, batch, size), images)
            cells.append(f"{trained:.1f} / {evaluated:.1f}")
        sys.stdout.write(f"| {backbone} | {' | '.join(cells)} |\n")
        sys.stdout.flush()


def accuracies(seeds: int, epochs: int) -> None:
    """Print the best validation accuracies of ResNet-18 on digits at 32 px, a row a precision."""
    with tempfile.TemporaryDirectory() as folder:
        for precision in ("fp32", "bf16"):
            config = TrialConfig(
                data=DataConfig(dataset="digits", data_dir=folder),
                model=ModelConfig(backbone="resnet18", weights="none", image_size=32),
                learning_rate=1e-3,
                batch_size=32,
                epochs=epochs,
                precision="fp32" if precision == "fp32" else "bf16",
            )
            best = [
                max(result.val_accuracy for result in run_trial(dataclasses.replace(config, seed=seed)))
                for seed in range(seeds)
            ]
            shown = ", ".join(f"{accuracy:.4f}" for accuracy in best)
            sys.stdout.write(
                f"{precision}: {shown}; mean {statistics.mean(best):.4f}, deviation {statistics.stdev(best):.4f}\n"
            )


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--images", type=int, default=16)
    parser.add_argument("--image-size", type=int, help="default: each backbone's own")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--epochs", type=int, default=10)
    options = parser.parse_args()
    speeds(options.batch, options.images, options.image_size)
    accuracies(options.seeds, options.epochs)


if __name__ == "__main__":
    main()
