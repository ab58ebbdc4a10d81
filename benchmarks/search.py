"""How soon each way of searching finds a good configuration, replayed against the table of real trainings.

``python -m benchmarks.search``: 50 seeds of each way, two trials at a time, 60 trials each. hpo's draws and rungs are
those of a study; the usual way is Ray's own OptunaSearch and ASHAScheduler with their defaults.
"""

import argparse
import functools
import json
import logging
import math
import statistics
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, cast

import matplotlib.pyplot as plt
import numpy as np
import optuna
from optuna.trial import TrialState
from ray.tune.schedulers import ASHAScheduler, TrialScheduler
from ray.tune.search.optuna import OptunaSearch

import search_spaces
from benchmarks.driver import study_spec
from benchmarks.search_table import BATCH_SIZES, EPOCHS, LEARNING_RATES, TABLE
from hpo.ledger.draws import Draws
from hpo.tune.rungs import METRIC, TIME, scheduler, scheduler_trial
from trainables.config import FREEZE_MODES

TRIALS = 60
AT_A_TIME = 2
USUAL, DEFAULT = "OptunaSearch + ASHA, as documented", "hpo's default: TPE + ASHA + enqueued start"


class Way(Protocol):
    """A way of searching; trials are named by their number."""

    scheduler: TrialScheduler

    def suggest(self, number: int) -> dict[str, Any]:
        """Return the next trial's parameters."""

    def report(self, number: int, epoch: int, value: float) -> None:
        """Learn of an epoch after which the trial continues."""

    def end(self, number: int, epoch: int, value: float, state: TrialState) -> None:
        """Learn of the trial's last epoch."""


class Own:
    """hpo's way, or one that leaves a part of it out."""

    def __init__(self, seed: int, *, enqueue: bool = True, **spec: Any) -> None:
        space = search_spaces.to_dict(search_spaces.builtin("resnet18", "default"))
        space = space if enqueue else {**space, "enqueue": []}
        of_study = study_spec(space, seed=seed * 1000, **spec)
        self.scheduler = scheduler(of_study.search, EPOCHS)
        self._draws = Draws(of_study, search_spaces.from_dict(space, "benchmark"), [])
        self._best: dict[int, float] = {}

    def suggest(self, number: int) -> dict[str, Any]:
        """Draw."""
        return self._draws.draw(number)[0]

    def report(self, number: int, epoch: int, value: float) -> None:
        """Report the epoch to the sampler."""
        self._draws.report(number, epoch, value)
        self._best[number] = max(value, self._best.get(number, value))

    def end(self, number: int, epoch: int, value: float, state: TrialState) -> None:
        """Report the end to the sampler; a complete trial's value is its best epoch's, as in the ledger."""
        self.report(number, epoch, value)
        self._draws.finish(number, state, self._best[number] if state is TrialState.COMPLETE else None)


class Usual:
    """Ray's OptunaSearch over the same parameters, and ASHA, both by their defaults."""

    def __init__(self, seed: int) -> None:
        self.scheduler: TrialScheduler = ASHAScheduler(time_attr=TIME, metric=METRIC, mode="max", max_t=EPOCHS)
        space: dict[str, Any] = {
            "learning_rate": optuna.distributions.FloatDistribution(1e-5, 1e-2, log=True),
            "batch_size": optuna.distributions.CategoricalDistribution(BATCH_SIZES),
            "epochs": optuna.distributions.IntDistribution(10, 50, step=10),
            "freeze_mode": optuna.distributions.CategoricalDistribution(FREEZE_MODES),
        }
        self._search = OptunaSearch(space, metric=METRIC, mode="max", seed=seed)

    def suggest(self, number: int) -> dict[str, Any]:
        """Ask OptunaSearch."""
        return cast(dict[str, Any], self._search.suggest(str(number)))

    def report(self, number: int, epoch: int, value: float) -> None:
        """Report the epoch to OptunaSearch."""
        self._search.on_trial_result(str(number), {METRIC: value, "training_iteration": epoch})

    def end(self, number: int, epoch: int, value: float, state: TrialState) -> None:  # noqa: ARG002 - it takes no state
        """Report the end to OptunaSearch, which takes every trial for complete."""
        self._search.on_trial_complete(str(number), {METRIC: value, "training_iteration": epoch})


@dataclass
class Running:
    """A trial in the replay."""

    number: int
    epochs: int
    curve: tuple[float, ...]
    epoch: int = 0


def replay(way: Way, trials: int = TRIALS) -> list[float]:
    """Run a study against the table and return the best accuracy so far after each epoch trained."""
    running: list[Running] = []
    best: list[float] = []
    started = 0
    while running or started < trials:
        if len(running) < AT_A_TIME and started < trials:
            params = way.suggest(started)
            running.append(Running(started, params["epochs"], looked_up(params)))
            way.scheduler.on_trial_add(cast(Any, None), scheduler_trial(started))
            started += 1
            continue
        trial = running.pop(0)
        trial.epoch += 1
        value = trial.curve[trial.epoch - 1]
        best.append(max(value, best[-1] if best else 0.0))
        result = {METRIC: value, TIME: trial.epoch}
        arguments = (cast(Any, None), scheduler_trial(trial.number), result)
        if trial.epoch == trial.epochs:
            way.scheduler.on_trial_complete(*arguments)
            way.end(trial.number, trial.epoch, value, TrialState.COMPLETE)
        elif way.scheduler.on_trial_result(*arguments) == TrialScheduler.STOP:
            way.end(trial.number, trial.epoch, value, TrialState.PRUNED)
        else:
            way.report(trial.number, trial.epoch, value)
            running.append(trial)
    return best


def looked_up(params: dict[str, Any]) -> tuple[float, ...]:
    """Return the curve of the grid's point that is nearest to `params`."""
    rate = min(LEARNING_RATES, key=lambda known: abs(math.log(known / params["learning_rate"])))
    return table()[rate, params["batch_size"], params["freeze_mode"]]


@functools.cache
def table() -> dict[tuple[float, int, str], tuple[float, ...]]:
    """Return the table's curves."""
    rows = json.loads(TABLE.read_text(encoding="utf-8"))
    return {(row["learning_rate"], row["batch_size"], row["freeze_mode"]): tuple(row["val_accuracy"]) for row in rows}


def ways(seed: int) -> dict[str, Way]:
    """Return all ways with this seed."""
    return {
        DEFAULT: Own(seed),
        "the same without the enqueued start": Own(seed, enqueue=False),
        "random search": Own(seed, enqueue=False, sampler="random", asha=False),
        "TPE alone": Own(seed, enqueue=False, asha=False),
        "random + ASHA": Own(seed, enqueue=False, sampler="random"),
        USUAL: Usual(seed),
    }


def epochs_to(curve: list[float], accuracy: float) -> float:
    """Return the epochs until `curve` reaches `accuracy`; infinite where it does not."""
    return next((number for number, best in enumerate(curve, start=1) if best >= accuracy), math.inf)


def shown(curves: dict[str, list[list[float]]]) -> str:
    """Return the results in Markdown."""
    goal = statistics.median(curve[-1] for curve in curves[USUAL])
    whole = statistics.median(len(curve) for curve in curves[USUAL])
    lines = [
        f"medians of {len(curves[USUAL])} seeds, {TRIALS} trials each; the usual way ends at {goal:.4f}",
        "",
        "| way | final accuracy | its mean | epochs | epochs to the usual way's final accuracy | share of its epochs |",
        "|---|---:|---:|---:|---:|---:|",
    ]
    for name, of_way in curves.items():
        reached = statistics.median(epochs_to(curve, goal) for curve in of_way)
        finals = [curve[-1] for curve in of_way]
        accuracies = f"{statistics.median(finals):.4f} | {statistics.mean(finals):.4f}"
        total = statistics.median(len(curve) for curve in of_way)
        lines.append(f"| {name} | {accuracies} | {total:.0f} | {reached:.0f} | {reached / whole:.2f} |")
    return "\n".join(lines) + "\n"


def main() -> None:
    """Replay, and print a table in Markdown."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=50)
    parser.add_argument("--figure", type=Path, help="a picture of the curves")
    options = parser.parse_args()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    logging.getLogger("ray.tune").setLevel(logging.ERROR)
    curves: dict[str, list[list[float]]] = {}
    for seed in range(options.seeds):
        for name, way in ways(seed).items():
            curves.setdefault(name, []).append(replay(way))
    sys.stdout.write(shown(curves))
    if options.figure:
        draw(curves, options.figure)


def draw(curves: dict[str, list[list[float]]], path: Path) -> None:
    """Draw the median of the best accuracy so far by epochs trained, and the quartiles of the two that matter most."""
    figure, axes = plt.subplots(figsize=(8, 4.2), layout="constrained")
    for name, of_way in curves.items():
        length = int(statistics.median(len(curve) for curve in of_way))
        grid = np.array([(curve + curve[-1:] * length)[:length] for curve in of_way])
        (line,) = axes.plot(range(1, length + 1), np.median(grid, axis=0), label=name)
        if name in (DEFAULT, USUAL):
            low, high = np.quantile(grid, (0.25, 0.75), axis=0)
            axes.fill_between(range(1, length + 1), low, high, alpha=0.2, color=line.get_color())
    axes.set_xscale("log")
    # Before, all ways do little but start.
    axes.set_xlim(left=20)
    axes.set_ylim(bottom=0.8)
    axes.set_xlabel("epochs trained")
    axes.set_ylabel("best validation accuracy so far")
    axes.legend(frameon=False, fontsize="small")
    axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=150)


if __name__ == "__main__":
    main()
