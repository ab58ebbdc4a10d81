"""The driver's cost per trial as a study grows, with trials that do nothing, and epoch reports per second.

``python -m benchmarks.driver [--trials 10000]``: Ray Tune, Optuna and SQLite are real, the training is not.
"""

import argparse
import itertools
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from ray import tune

import search_spaces
from hpo.choices import Sampler
from hpo.interrupts import Interruption
from hpo.ledger import studies as ledgers
from hpo.ledger.ledger import Ledger
from hpo.ledger.records import Assignment
from hpo.machines.checkpoints import CheckpointPlace
from hpo.machines.placement import Node, Placement, Share, Slot
from hpo.machines.session import ray_session
from hpo.paths import StudyPaths
from hpo.spec import RunOptions, SearchConfig, StudySpec
from hpo.tune.trials import StudyRun
from hpo.tune.tuner import run_trials
from trainables.config import DataConfig, EpochResult, ModelConfig

BLOCKS = 10
REPETITIONS = 5


class EmptyTrial(tune.Trainable):
    """Answers immediately with the one epoch that the trial has."""

    def setup(self, config: dict[str, Any]) -> None:
        """Remember the trial's number."""
        self._number: int = config["number"]

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """Begin another trial in this process."""
        self.setup(new_config)
        return True

    def step(self) -> dict[str, Any]:
        """Return an epoch whose accuracy depends on nothing but the trial's number."""
        accuracy = (self._number * 7919 % 10007) / 10007
        result = vars(epoch(1, accuracy))
        rest = {"number": self._number, "host": "localhost", "device": "none", "card": None}
        rest |= {"restarted": None, "micro_batch": None, "memory_gb": None}
        return {**result, **rest, "epochs": 1, "done": True}


class Clock:
    """Notes when each trial ended, and what CPU time this process had taken by then, in seconds."""

    def __init__(self) -> None:
        self.ends: list[float] = []
        self.cpu: list[float] = []

    def started(self, assignment: Assignment) -> None:
        """Nothing to note."""

    def epoch(self, number: int, result: EpochResult, slot: Slot) -> None:
        """Nothing to note."""

    def restarted(self, number: int, reason: str) -> None:
        """Nothing to note."""

    def ended(self, number: int, state: str, error: str | None) -> None:  # noqa: ARG002 - a listener's signature
        """Note the times."""
        self.ends.append(time.perf_counter())
        self.cpu.append(time.process_time())

    def retrained(self, result: EpochResult, epochs: int) -> None:
        """Nothing to note."""


def epoch(number: int, accuracy: float) -> EpochResult:
    """Return an epoch as a trial reports it."""
    return EpochResult(
        epoch=number,
        val_accuracy=accuracy,
        val_loss=1.0,
        train_loss=1.0,
        learning_rate=1e-3,
        seconds=1.0,
        images_per_second=1.0,
    )


def study_spec(space: dict[str, Any], *, seed: int = 0, **search: Any) -> StudySpec:
    """Return the specification of a study in a search space, by hpo's defaults but for what is given."""
    return StudySpec(
        data=DataConfig(dataset="pets"),
        model=ModelConfig(backbone="resnet50", precision="fp32"),
        search=SearchConfig(space=space, **search),
        seed=seed,
    )


def new_ledger(folder: Path, trials: int, epochs: int, sampler: Sampler) -> Ledger:
    """Create and own a study with the default search space, of trials of `epochs` epochs, in an SQLite file."""
    space = search_spaces.to_dict(search_spaces.builtin("resnet50", "default"))
    space["parameters"]["epochs"] = epochs
    space["enqueue"] = []
    spec = study_spec(space, sampler=sampler, grace_period=1)
    ledger = ledgers.create(f"sqlite:///{folder / 'optuna.db'}", "empty", spec, RunOptions(trials=trials), {})
    ledger.own()
    return ledger


def seconds_per_trial(trials: int, sampler: Sampler) -> list[tuple[float, float]]:
    """Run `trials` empty trials, two at a time; return wall and CPU seconds per trial in each of `BLOCKS` blocks."""
    with tempfile.TemporaryDirectory() as name, ray_session("local"):
        ledger = new_ledger(Path(name), trials, 1, sampler)
        clock = Clock()
        begun, cpu_begun = time.perf_counter(), time.process_time()
        paths = StudyPaths(Path(name), "empty")
        place = CheckpointPlace("empty", str(paths.checkpoints), shared=True)
        run_trials(
            [StudyRun(ledger, ledger.run_options, paths, place, clock)],
            Placement((Node(2),), Share(1, 0), Share(1, 0), 2),
            Interruption(""),
            EmptyTrial,
        )
    return list(zip(by_block(begun, clock.ends), by_block(cpu_begun, clock.cpu), strict=True))


def by_block(begun: float, ends: list[float]) -> list[float]:
    """Return the seconds per trial in each block, of trials that begin at `begun` and end at `ends`."""
    block = len(ends) // BLOCKS
    times = [begun, *ends[block - 1 :: block][:BLOCKS]]
    return [(after - before) / block for before, after in itertools.pairwise(times)]


def reports_per_second(epochs: int) -> float:
    """Report one trial's epochs, as fast as the ledger takes them."""
    with tempfile.TemporaryDirectory() as name:
        ledger = new_ledger(Path(name), 1, epochs, "tpe")
        number = ledger.ask().number
        begun = time.perf_counter()
        for count in range(1, epochs + 1):
            ledger.report(number, epoch(count, count / epochs), host="localhost", device="none")
        return epochs / (time.perf_counter() - begun)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--trials", type=int, default=10_000)
    parser.add_argument("--sampler", choices=("tpe", "random"), default="tpe")
    options = parser.parse_args()
    for epochs in (50, 200):
        rate = statistics.median(reports_per_second(epochs) for _ in range(REPETITIONS))
        sys.stdout.write(f"epoch reports per second, {epochs} epochs: {rate:.0f}\n")
    block = options.trials // BLOCKS
    for number, (wall, cpu) in enumerate(seconds_per_trial(options.trials, options.sampler), start=1):
        sys.stdout.write(f"trials to {number * block}: {wall:.4f} s per trial, {cpu:.4f} of the driver's CPU time\n")


if __name__ == "__main__":
    main()
