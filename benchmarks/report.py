"""How long `hpo report` of a large study takes, and how large it is: ``python -m benchmarks.report``.

The study is synthetic and written through Optuna's storage into SQLite: 1,000 trials of up to 50 epochs, 37 classes,
920 validation images, predictions of all trials, and those of a final model. Nothing is trained.
"""

import argparse
import json
import logging
import math
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import optuna
import pandas as pd

import search_spaces
from hpo.ledger import studies
from hpo.ledger.ledger import Ledger
from hpo.ledger.records import Place, as_row
from hpo.paths import StudyPaths
from hpo.report.page import PAGE
from hpo.spec import RunOptions, SearchConfig, StudySpec
from trainables.config import DataConfig, EpochResult, ModelConfig
from trainables.predictions import pack

CLASSES = tuple(f"class {number}" for number in range(37))
VALIDATION, TEST, SLOTS = 920, 3669, 4


def main() -> None:
    """Write the study, make its report, and print seconds, the load beside it, and bytes."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--trials", type=int, default=1000)
    parser.add_argument("--folder", type=Path, help="Where the study is or is put; default: a temporary folder.")
    options = parser.parse_args()
    logging.basicConfig(level=logging.WARNING)
    with tempfile.TemporaryDirectory() as temporary:
        folder = options.folder or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        url = f"sqlite:///{folder / 'optuna.db'}"
        paths = StudyPaths(folder, "large")
        begun = time.monotonic()
        if not (folder / "optuna.db").exists():
            write_study(url, paths, options.trials)
        wrote, used = time.monotonic(), children_cpu_s()
        command = [sys.executable, "-m", "hpo", "report", paths.name, "--studies-dir", str(folder)]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        ended = time.monotonic()
        result = {
            "trials": options.trials,
            "writing_s": round(wrote - begun, 1),
            "report_s": round(ended - wrote, 1),
            "report_cpu_s": round(children_cpu_s() - used, 1),
            "load": round(os.getloadavg()[0], 1),
            "page_mb": round((paths.report / PAGE).stat().st_size / 1e6, 2),
        }
        print(json.dumps(result))  # noqa: T201 - the result


def children_cpu_s() -> float:
    """Return the CPU time of all processes that this one has started and that have ended, in s."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def write_study(url: str, paths: StudyPaths, trials: int) -> Ledger:
    """Create a study of random search with invented curves, three quarters of which end at epochs 2 and 8."""
    generator = np.random.default_rng(0)
    labels = generator.integers(0, len(CLASSES), VALIDATION)
    space = search_spaces.builtin("resnet50", "default")
    search = SearchConfig(space=search_spaces.to_dict(space), sampler="random")
    spec = StudySpec(
        data=DataConfig(dataset="pets"), model=ModelConfig(backbone="resnet50", image_size=224), search=search, seed=0
    )
    splits = {
        "train": 2760,
        "validation": VALIDATION,
        "classes": list(CLASSES),
        "validation_labels": pack(labels),
    }
    ledger = studies.create(url, paths.name, spec, RunOptions(trials=trials), splits)
    stored = optuna.load_study(study_name=paths.name, storage=url)
    drawn = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    clock = [0.0] * SLOTS
    for number in range(trials):
        trial = drawn.ask()
        search_spaces.suggest(space, trial)
        stored.add_trial(ended(trial, generator, labels, clock, number % SLOTS))
    test = generator.integers(0, len(CLASSES), TEST)
    predicted = _guess(generator, test, 0.9)
    paths.final.mkdir(parents=True, exist_ok=True)
    rows = {"image": [f"{number}.jpg" for number in range(TEST)]}
    names = np.asarray(CLASSES)
    pd.DataFrame({**rows, "true": names[test], "predicted": names[predicted]}).to_csv(
        paths.final / "test_predictions.csv", index=False
    )
    right = float((test == predicted).mean())
    ledger.final = {
        "trial": 0,
        "best_trial": 0,
        "test_accuracy": right,
        "test_accuracy_ci95": [right - 0.01, right + 0.01],
        "test_images": TEST,
        "seeds": {"test_accuracies": [right], "mean": right, "stdev": None},
    }
    return ledger


def ended(
    trial: optuna.Trial, generator: np.random.Generator, labels: np.ndarray, clock: list[float], slot: int
) -> optuna.trial.FrozenTrial:
    """Return a trial with a curve, which it trained after what `clock` says of its slot."""
    best = 0.92 - 0.05 * abs(math.log10(trial.params["learning_rate"]) + 4) - 0.02 * generator.random()
    epochs = int(trial.params["epochs"])
    last = min(epochs, int(generator.choice([2, 2, 2, 8]))) if generator.random() < 0.75 else epochs
    state = optuna.trial.TrialState.COMPLETE if last == epochs else optuna.trial.TrialState.PRUNED
    values = {number: best * (1 - math.exp(-number / 2)) for number in range(1, last + 1)}
    place, rows = Place(f"10.0.0.{1 + slot % 2}", "a card"), []
    for number, value in values.items():
        result = EpochResult(
            epoch=number,
            val_accuracy=value,
            val_loss=1 - value,
            train_loss=1 - value,
            learning_rate=trial.params["learning_rate"],
            seconds=float(generator.uniform(20, 60)),
            images_per_second=50.0,
        )
        clock[slot] += result.seconds
        rows.append(as_row(result, place, clock[slot]))
    return optuna.trial.create_trial(
        state=state,
        value=values[last] if last == epochs else None,
        params=trial.params,
        distributions=trial.distributions,
        intermediate_values=values,
        user_attrs={
            "curve": rows,
            **place._asdict(),
            "best_epoch": last,
            "val_predictions": pack(_guess(generator, labels, values[last])),
        },
    )


def _guess(generator: np.random.Generator, labels: np.ndarray, right: float) -> np.ndarray:
    wrong = generator.random(len(labels)) > right
    return np.where(wrong, generator.integers(0, len(CLASSES), len(labels)), labels)


if __name__ == "__main__":
    main()
