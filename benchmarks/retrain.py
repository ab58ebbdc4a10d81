"""Which way of training the final model gives the best test accuracy, and which objective chooses the best trial.

``python -m benchmarks.retrain --data-dir DIR``: ten small studies of each of four datasets and four starts;
Fashion-MNIST's files must lie in DIR/FashionMNIST/raw. A study draws a few configurations, trains them, picks the best
by validation and trains the final model in every way.
``--backbone resnet18`` is one fixed configuration instead, from random weights on digits at 32 pixels; where that takes
too long, ``--backbone benchmarks.retrain_data:narrow_resnet18``.
"""

import argparse
import dataclasses
import functools
import itertools
import json
import math
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn, update_bn

from benchmarks.retrain_data import Task, cosine, model, tasks, train_on_all, train_with_validation
from benchmarks.retrain_tables import (
    BEST,
    BEST_AVERAGED,
    CONTROL,
    COSINE,
    COSINE_AVERAGED,
    EMA,
    HALF,
    LATE,
    LONG,
    OBJECTIVES,
    OWN,
    QUARTER,
    SHORT,
    SOUP,
    TODAY,
    choose,
    shown,
)
from hpo.spec import split_seeds
from trainables.config import (
    DataConfig,
    EpochResult,
    FreezeMode,
    Geometry,
    MachineConfig,
    ModelConfig,
    TrialConfig,
)
from trainables.data.held_out import held_out_images
from trainables.data.image_store import open_store
from trainables.data.splits import Splits
from trainables.data.transforms import normalise
from trainables.training.epoch import Examples, Learner, evaluate
from trainables.training.feature_store import with_features
from trainables.training.trial import TrainingData, begin

STARTS: dict[str, FreezeMode] = {"random": "none", "none": "none", "partial": "partial", "backbone": "backbone"}
"""Where the network starts and what trains: ``random`` weights, or pretrained ones in each freeze mode."""
RANDOM = ("tops-250", "digits")
"""Which datasets are learned from random weights too."""
CONFIGURATIONS = 3
SOUP_IMAGES = 600
"""Up to how many images a soup is made of; it costs as much as three final models."""


def draw(task: Task, start: str, seed: int, data_dir: str) -> list[TrialConfig]:
    """Return the configurations of the study of this seed, which draws the split and the trials' seeds too."""
    generator = np.random.default_rng(np.random.SeedSequence(seed))
    return [
        TrialConfig(
            data=DataConfig(dataset=task.dataset, split_seeds=split_seeds(seed)),
            model=model("default" if start == "random" else task.weights),
            freeze_mode=STARTS[start],
            machine=MachineConfig(data_dir=data_dir),
            learning_rate=float(10 ** generator.uniform(-4, -2)),
            batch_size=int(generator.choice([64, 128])),
            epochs=int(generator.choice([6, 10, 16])),
            seed=1000 * seed + number,
        )
        for number in range(CONFIGURATIONS)
    ]


def from_random(backbone: str, seed: int, data_dir: str) -> list[TrialConfig]:
    """Return the one configuration that gave 0.986 on validation and, as a ResNet-18 retrained today's way, 0.956."""
    return [
        TrialConfig(
            data=DataConfig(dataset="digits"),
            machine=MachineConfig(data_dir=data_dir),
            model=ModelConfig(backbone=backbone, weights="default" if "." in backbone else "none", image_size=32),
            learning_rate=1e-3,
            batch_size=128,
            epochs=30,
            seed=1000 * seed,
        )
    ]


class Average:
    """The mean of a learner's weights behind some of its epochs."""

    def __init__(self, learner: Learner, from_epoch: int, decay: float | None = None) -> None:
        self._learner, self._from = learner, from_epoch
        average = None if decay is None else get_ema_multi_avg_fn(decay)  # type: ignore[no-untyped-call] # torch leaves it untyped
        self._model = AveragedModel(_part(learner), multi_avg_fn=average, use_buffers=decay is not None)

    def see(self, result: EpochResult) -> None:
        """Add the weights as they are."""
        if result.epoch >= self._from:
            self.add(self._learner)

    def learner(self, data: TrainingData | None = None) -> Learner:
        """Return a learner with the mean; with `data`, its batch-norm statistics are those of these images."""
        if data is not None:
            update_bn(_inputs(self._learner, data), self._model.module)
        return _with_part(self._learner, self._model.module.eval())

    def add(self, learner: Learner) -> None:
        """Add another learner's weights."""
        self._model.update_parameters(_part(learner))


def _part(learner: Learner) -> nn.Module:
    return learner.network.model if learner.tail is None else learner.tail


def _with_part(learner: Learner, part: nn.Module) -> Learner:
    if learner.tail is not None:
        return dataclasses.replace(learner, tail=part)
    return dataclasses.replace(learner, network=dataclasses.replace(learner.network, model=part))


def _inputs(learner: Learner, data: TrainingData) -> Iterator[Tensor]:
    indices = np.random.default_rng(0).permutation(np.concatenate([data.splits.train, data.splits.validation]))
    for batch in np.array_split(indices, math.ceil(len(indices) / learner.config.batch_size)):
        inputs = torch.from_numpy(data.examples.inputs[batch])
        yield inputs if learner.tail is not None else normalise(inputs, learner.geometry)


@functools.lru_cache(maxsize=2)
def _test_pixels(data: DataConfig, geometry: Geometry, machine: MachineConfig) -> Examples:
    images = held_out_images(data, machine.data_dir)
    pixels = open_store(images, geometry, machine.data_dir, machine.cache_bytes)
    return Examples(pixels, torch.from_numpy(images.labels))


def test_accuracy(learner: Learner) -> float:
    """Return the accuracy on held-out test images."""
    pixels = _test_pixels(learner.config.data, learner.geometry, learner.config.machine)
    _, examples = with_features(dataclasses.replace(learner, tail=None), pixels)
    return evaluate(learner, examples, np.arange(len(pixels.labels))).accuracy


def run(epochs: Iterable[EpochResult], *see: Callable[[EpochResult], object]) -> list[EpochResult]:
    """Train to the end and show every epoch's result to each of `see`."""
    results = []
    for result in epochs:
        results.append(result)
        for one in see:
            one(result)
    return results


def study(configs: Sequence[TrialConfig], *, every_way: bool = True) -> dict[str, Any]:
    """Train the trials, choose one by its best epoch, and train its final model in every way, or by its own rates only.

    Returns:
        Of each trial the configuration, the learning rates, the validation accuracies of its weights and of their
        moving average, and test accuracies; of the chosen trial the test accuracies of all ways.
    """
    trials = [_trial(config) for config in configs]
    chosen = choose(trials, "best epoch")
    config, trial = configs[chosen], trials[chosen]
    best = int(np.argmax(trial["curve"])) + 1
    tested: dict[str, float] = _replayed(config, trial["rates"], best)
    if every_way:
        for number in {choose(trials, objective) for objective in OBJECTIVES}:
            trials[number]["tests"] |= _annealed(configs[number])
        tested |= _with_validation(dataclasses.replace(config, seed=config.seed + 7919))
        tested[SHORT] = _by_rates(config, cosine(config, best))
        tested[LATE] = _by_rates(config, cosine(config, flat=config.epochs // 2))
        if trial["images"] <= SOUP_IMAGES:
            tested[CONTROL] = _by_rates(config, cosine(config), on_all=False)
        if config.model.weights != "default" and trial["images"] <= SOUP_IMAGES:
            tested[SOUP] = _soup(config)
    tested |= trial["tests"]
    return {"trials": trials, "chosen": chosen, "val": max(trial["curve"]), "test": tested}


def _trial(config: TrialConfig) -> dict[str, Any]:
    learner, data = begin(config)
    average, curve = Average(learner, 1, 0.7), list[float]()

    def judge(_: EpochResult) -> None:
        curve.append(evaluate(average.learner(), data.examples, data.splits.validation).accuracy)

    results = run(train_with_validation(learner, data), average.see, judge)
    return {
        **{key: getattr(config, key) for key in ("learning_rate", "batch_size", "epochs")},
        "images": len(data.splits.train) + len(data.splits.validation),
        "rates": [result.learning_rate for result in results],
        "curve": [result.val_accuracy for result in results],
        "averaged_curve": curve,
        "tests": {OWN: test_accuracy(learner)},
    }


def _annealed(config: TrialConfig) -> dict[str, float]:
    learner, data = begin(config)
    quarter = Average(learner, config.epochs - config.epochs // 4 + 1)
    run(train_on_all(learner, data, cosine(config)), quarter.see)
    return {COSINE: test_accuracy(learner), COSINE_AVERAGED: test_accuracy(quarter.learner(data))}


def _with_validation(config: TrialConfig) -> dict[str, float]:
    learner, data = begin(config)
    half = Average(learner, config.epochs // 2 + 1)
    run(train_with_validation(learner, data), half.see)
    train_only = dataclasses.replace(data, splits=_without_validation(data))
    return {BEST: test_accuracy(learner), BEST_AVERAGED: test_accuracy(half.learner(train_only))}


def _replayed(config: TrialConfig, rates: list[float], best: int) -> dict[str, float]:
    learner, data = begin(config)
    epochs, tested = config.epochs, dict[str, float]()
    averages = {
        HALF: Average(learner, epochs // 2 + 1),
        QUARTER: Average(learner, epochs - epochs // 4 + 1),
        EMA: Average(learner, 1, 0.7),
    }

    def today(result: EpochResult) -> None:
        if result.epoch == best:
            tested[TODAY] = test_accuracy(learner)

    run(train_on_all(learner, data, rates), today, *(average.see for average in averages.values()))
    averaged = {way: test_accuracy(average.learner(data)) for way, average in averages.items()}
    return {**tested, LONG: test_accuracy(learner), **averaged}


def _by_rates(config: TrialConfig, rates: list[float], *, on_all: bool = True) -> float:
    learner, data = begin(config)
    run(train_on_all(learner, data if on_all else dataclasses.replace(data, splits=_without_validation(data)), rates))
    return test_accuracy(learner)


def _soup(config: TrialConfig) -> float:
    """Average networks that differ in the order of their images alone (Wortsman et al. 2022)."""
    soup = Average(begin(config)[0], 1)
    for number in range(3):
        learner, data = begin(config)
        ordered = dataclasses.replace(learner, config=dataclasses.replace(config, seed=config.seed + number))
        run(train_on_all(ordered, data, cosine(config)))
        soup.add(learner)
    return test_accuracy(soup.learner(data))


def _without_validation(data: TrainingData) -> Splits:
    return dataclasses.replace(data.splits, validation=data.splits.validation[:0])


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data-dir", type=Path, required=True)
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--quick", action="store_true", help="two seeds of the smallest dataset")
    parser.add_argument("--backbone", help="train this one on digits from random weights, one fixed configuration")
    parser.add_argument("--output", type=Path, help="raw rows in JSON; studies that are there are not run again")
    options = parser.parse_args()
    torch.set_num_threads(1)
    rows: list[dict[str, Any]] = []
    if options.output and options.output.exists():
        rows = json.loads(options.output.read_text(encoding="utf-8"))
    found = {"digits": Task("digits", "")} if options.backbone else tasks(options.data_dir)
    names = list(found)[:1] if options.quick else list(found)
    points = itertools.product(range(2 if options.quick else options.seeds), names, STARTS)
    for seed, name, start in points:
        if any((row["seed"], row["dataset"], row["start"]) == (seed, name, start) for row in rows):
            continue
        if (start == "random" and name not in RANDOM) or (options.backbone and start != "random"):
            continue
        folder = str(options.data_dir)
        configs = (
            from_random(options.backbone, seed, folder) if options.backbone else draw(found[name], start, seed, folder)
        )
        rows.append({"dataset": name, "start": start, "seed": seed, **study(configs, every_way=not options.backbone)})
        if options.output:
            options.output.write_text("[\n" + ",\n".join(map(json.dumps, rows)) + "\n]\n", encoding="utf-8")
    sys.stdout.write(shown(rows))


if __name__ == "__main__":
    main()
