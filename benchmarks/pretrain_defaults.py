"""What the defaults of `hpo pretrain` rest on for small pictures: four of its options, on three tasks.

``python -m benchmarks.pretrain_defaults run`` pretrains a ResNet-18 of each task with each of eight settings, and with
the published and the chosen ones once more with other seeds. What is measured is added to
``pretrain_defaults.json``; runs that it holds are not repeated. ``python -m benchmarks.pretrain_defaults`` prints its
tables.

The settings are half of the sixteen combinations of two values of each option: those with an even number of values
that were not published, so that no option's effect is mixed with another's or with what two have in common
(a two-level fractional factorial design of resolution IV; Box, Hunter & Hunter 2005, chapter 6).
"""

import argparse
import itertools
import json
import sys
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict, dataclass
from multiprocessing import get_context
from pathlib import Path

import numpy as np
from safetensors.torch import load

from benchmarks.pretrain import decoded, labelled, of_network, probe
from benchmarks.retrain_data import OTHERS, TOPS, subset
from trainables.config import DataConfig, MachineConfig
from trainables.contrastive.config import PretrainConfig, PretrainedEncoder, PretrainEpoch, PretrainMachine, composed
from trainables.contrastive.pretraining import new_learner, pretrain
from trainables.data.datasets import training_images
from trainables.data.held_out import held_out_images

OPTIONS: dict[str, tuple[float, float]] = {
    "temperature": (0.5, 0.2),
    "min_crop": (0.08, 0.5),
    "batch_size": (256, 64),
    "strength": (1.0, 0.5),
}
"""The published value for ImageNet of each option, and another."""
PUBLISHED = {name: values[0] for name, values in OPTIONS.items()}
CHOSEN = PUBLISHED | {"min_crop": 0.5, "strength": 0.5}
"""What `hpo pretrain` takes up to 64 px."""
TASKS = ("digits", "tops", "others")
SIZE, EPOCHS, IMAGES, FRACTION = 16, 10, 1500, 0.1
MEASURES = {"few": f"probe, {FRACTION:.0%} of the labels", "every": "probe, all", "knn": "kNN"}
KEPT = Path(__file__).with_suffix(".json")


@dataclass(frozen=True)
class Measured:
    """One pretraining."""

    task: str
    seed: int
    options: dict[str, float]
    few: float
    """Test accuracy of logistic regression on the frozen features, learned from `FRACTION` of the labels."""
    every: float
    """The same from all labels."""
    knn: float
    """Of the validation images, as `hpo pretrain` prints it."""
    random_knn: float
    """Before the first step."""


def settings() -> Iterator[dict[str, float]]:
    """Yield the half fraction."""
    for chosen in itertools.product((0, 1), repeat=len(OPTIONS)):
        if sum(chosen) % 2 == 0:
            yield {name: values[level] for (name, values), level in zip(OPTIONS.items(), chosen, strict=True)}


def wanted(seeds: int) -> Iterator[tuple[str, int, dict[str, float]]]:
    """Yield what is to be run: all settings with one seed, then two of them with the others."""
    for seed in range(seeds):
        yield from ((task, seed, one) for one in (settings() if seed == 0 else (PUBLISHED, CHOSEN)) for task in TASKS)


def dataset(task: str, data_dir: Path) -> str:
    """Write a task's images that are not there yet, and return the dataset."""
    if task == "digits":
        return task
    known, tested = (
        read(DataConfig(dataset="fashion-mnist"), str(data_dir)) for read in (training_images, held_out_images)
    )
    return subset(data_dir.absolute(), f"{task}-{IMAGES}", known, tested, TOPS if task == "tops" else OTHERS, IMAGES)


def config(task: str, of: str, seed: int, options: dict[str, float]) -> PretrainConfig:
    """Return the pretraining; a mirrored digit is another sign."""
    return composed(
        DataConfig(dataset=of, val_fraction=0.1, layouts="recognised"),
        "torchvision:resnet18",
        SIZE,
        options
        | {"batch_size": int(options["batch_size"]), "epochs": EPOCHS, "warmup_epochs": 1, "flip": task != "digits"},
        knn_every=EPOCHS,
        precision="fp32",
        seed=seed,
    )


def measure(task: str, of: str, seed: int, options: dict[str, float], data_dir: Path) -> Measured:
    """Pretrain and judge by linear probes of the test images."""
    machine = PretrainMachine(machine=MachineConfig(data_dir=str(data_dir), threads=1))
    asked = config(task, of, seed, options)
    learner = new_learner(asked, machine)
    *_, last, encoder = pretrain(asked, machine)
    assert isinstance(last, PretrainEpoch)
    assert isinstance(encoder, PretrainedEncoder)
    assert last.knn_accuracy is not None
    learner.network.encoder.load_state_dict(load(encoder.encoder))
    known, tested = (read(asked.data, str(data_dir)) for read in (training_images, held_out_images))
    train, test = (of_network(learner)(decoded(one, SIZE, machine)) for one in (known, tested))
    few, every = (
        probe(train[chosen], known.labels[chosen], test, tested.labels)
        for chosen in (labelled(known.labels, share, seed) for share in (FRACTION, 1.0))
    )
    return Measured(task, seed, options, few, every, last.knn_accuracy, encoder.random_knn_accuracy)


def run(data_dir: Path, seeds: int, workers: int) -> None:
    """Run what is not kept yet, `workers` at a time with one thread each, and keep each result at once."""
    done = kept()
    have = {(one.task, one.seed, *one.options.values()) for one in done}
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        begun = [
            pool.submit(measure, task, dataset(task, data_dir), seed, options, data_dir)
            for task, seed, options in wanted(seeds)
            if (task, seed, *options.values()) not in have
        ]
        for future in as_completed(begun):
            done.append(future.result())
            KEPT.write_text(json.dumps([asdict(one) for one in done], indent=1) + "\n", encoding="utf-8")
            sys.stderr.write(f"{len(done)}: {future.result()}\n")


def kept() -> list[Measured]:
    """Return what was measured before."""
    return [Measured(**one) for one in json.loads(KEPT.read_text(encoding="utf-8"))] if KEPT.exists() else []


def tables(runs: list[Measured]) -> str:
    """Return the effect of each option by each measure, and the two settings over their seeds, as Markdown."""
    lines = [f"| option | measure | {' | '.join(TASKS)} | mean | chance |", f"|---|---|{'---:|' * (len(TASKS) + 2)}"]
    for name, (published, other) in OPTIONS.items():
        for measure, words in MEASURES.items():
            effects = [
                _mean(runs, task, measure, name, other) - _mean(runs, task, measure, name, published) for task in TASKS
            ]
            cells = " | ".join(
                [*(f"{one:+.3f}" for one in [*effects, np.mean(effects)]), f"{_chance(runs, measure):.3f}"]
            )
            lines.append(f"| {name} {other:g} instead of {published:g} | {words} | {cells} |")
    head = ["setting", "task", *MEASURES.values(), "kNN before"]
    lines += ["", f"| {' | '.join(head)} |", f"|---|---|{'---:|' * (len(MEASURES) + 1)}"]
    for words, options in (("published", PUBLISHED), ("chosen", CHOSEN)):
        for task in TASKS:
            found = [one for one in runs if one.task == task and one.options == options]
            cells = " | ".join(
                f"{np.mean(values):.3f} ({min(values):.3f} to {max(values):.3f})"
                for values in ([getattr(one, measure) for one in found] for measure in (*MEASURES, "random_knn"))
            )
            lines.append(f"| {words} | {task} (n = {len(found)}) | {cells} |")
    return "\n".join(lines) + "\n"


def _mean(runs: list[Measured], task: str, measure: str, option: str, value: float) -> float:
    found = [getattr(one, measure) for one in runs if (one.task, one.seed, one.options[option]) == (task, 0, value)]
    return float(np.mean(found))


def _chance(runs: list[Measured], measure: str) -> float:
    """Return the standard error of a mean effect: by the contrasts of pairs of options, as if none had an effect."""
    contrasts = []
    first, *others = OPTIONS
    for task, other in itertools.product(TASKS, others):
        signed = [
            (1 if (one.options[first] == PUBLISHED[first]) == (one.options[other] == PUBLISHED[other]) else -1)
            * getattr(one, measure)
            for one in runs
            if (one.task, one.seed) == (task, 0)
        ]
        contrasts.append(sum(signed) / (len(signed) / 2))
    return float(np.sqrt(np.mean(np.square(contrasts)) / len(TASKS)))


def main() -> None:
    """Run, or print what is kept."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", nargs="?", choices=["run", "show"], default="show")
    parser.add_argument("--data-dir", type=Path, default=Path(".bench"))
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--workers", type=int, default=2)
    options = parser.parse_args()
    if options.what == "run":
        run(options.data_dir, options.seeds, options.workers)
    sys.stdout.write(tables(kept()))


if __name__ == "__main__":
    main()
