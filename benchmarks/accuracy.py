"""Whether the faster precision costs accuracy: the same trials in float32 and in bfloat16, five seeds each.

``python -m benchmarks.accuracy``: a ResNet-18 from random weights on scikit-learn's digits at 32 pixels, 8 epochs.
"""

import argparse
import statistics
import sys
from typing import get_args

from hpo.spec import split_seeds
from trainables.config import DataConfig, ModelConfig, Precision, TrialConfig
from trainables.training.trial import run_trial

EPOCHS = 8


def best_accuracy(precision: Precision, seed: int) -> float:
    """Return the validation accuracy of the best epoch of a trial, in [0, 1]; the splits follow from the seed too."""
    config = TrialConfig(
        data=DataConfig(dataset="digits", split_seeds=split_seeds(seed)),
        model=ModelConfig(backbone="resnet18", weights="none", image_size=32, precision=precision),
        learning_rate=3e-4,
        batch_size=32,
        epochs=EPOCHS,
        seed=seed,
    )
    return max(result.val_accuracy for result in run_trial(config))


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--precision", choices=get_args(Precision), nargs=2, default=("fp32", "bf16"))
    options = parser.parse_args()
    found = {
        precision: [best_accuracy(precision, seed) for seed in range(options.seeds)] for precision in options.precision
    }
    for precision, accuracies in found.items():
        listed = ", ".join(f"{accuracy:.4f}" for accuracy in accuracies)
        mean, spread = statistics.fmean(accuracies), statistics.stdev(accuracies)
        sys.stdout.write(f"{precision}: {listed}; mean {mean:.4f}, deviation {spread:.4f}\n")
    one, other = (found[precision] for precision in options.precision)
    gains = [after - before for before, after in zip(one, other, strict=True)]
    error = statistics.stdev(gains) / len(gains) ** 0.5
    sys.stdout.write(f"paired difference: {statistics.fmean(gains):+.4f}, standard error {error:.4f}\n")


if __name__ == "__main__":
    main()
