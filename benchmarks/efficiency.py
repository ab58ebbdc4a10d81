"""The share of a study's time that its processes spend in forward, backward and optimiser steps, by freeze mode.

``python -m benchmarks.efficiency [--trials 24]``: the images, the network and the eight configurations of
benchmarks.study, each as often as there are trials for, so that the study takes minutes, as real ones take hours. For a
CPU only: a GPU works beside Python, where these clocks would read something else.
"""

import argparse
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar, ParamSpec, TypeVar

import torch

import search_spaces
from benchmarks.driver import Clock
from benchmarks.study import configurations, write_digits, write_space, write_weights
from hpo.interrupts import Interruption
from hpo.ledger import studies as ledgers
from hpo.ledger.records import Assignment
from hpo.machines.checkpoints import CheckpointPlace
from hpo.machines.placement import Slot, place
from hpo.machines.session import nodes, ray_session
from hpo.paths import StudyPaths
from hpo.spec import RunOptions, SearchConfig
from hpo.studies.new import new_study
from hpo.tune.trials import StudyRun
from hpo.tune.tuner import run_trials
from hpo.tune.worker import Worker
from trainables.config import DataConfig, EpochResult, ModelConfig
from trainables.training import epoch as learning
from trainables.training.adam import EagerAdam

P = ParamSpec("P")
T = TypeVar("T")
LENGTHS = {"backbone": (20, 40), "partial": (5, 10), "none": (2, 4)}
"""Two lengths of trial by freeze mode."""


class TimedWorker(Worker):
    """A trial's process that adds up how long it computes, and writes it to a file of its own at each trial's end."""

    computed: ClassVar[list[float]] = []

    def setup(self, config: dict[str, Any]) -> None:
        """Begin the trial, with the clocks in place."""
        self._file = Path(config["checkpoints"].uri).parent / f"{config['number']}.seconds"
        if learning.forward.__name__ != "clocked":
            for owner, name in ((learning, "forward"), (torch.Tensor, "backward"), (EagerAdam, "step")):
                setattr(owner, name, timed(getattr(owner, name), self.computed))
        super().setup(config)

    def cleanup(self) -> None:
        """Write down this trial's seconds."""
        self._file.write_text(str(sum(self.computed)), encoding="utf-8")
        self.computed.clear()
        super().cleanup()


class Span(Clock):
    """Notes when each trial first reported, too."""

    def __init__(self) -> None:
        super().__init__()
        self.begun = time.perf_counter()
        self.first: float | None = None

    def started(self, assignment: Assignment) -> None:
        """Nothing to note: the process may still have to start."""

    def epoch(self, number: int, result: EpochResult, slot: Slot) -> None:  # noqa: ARG002 - a listener's signature
        """Note the beginning of the first epoch that is reported."""
        if self.first is None:
            self.first = time.perf_counter() - result.seconds


def timed(function: Callable[P, T], seconds: list[float]) -> Callable[P, T]:
    """Return `function` with a clock that appends to `seconds`."""

    def clocked(*args: P.args, **kwargs: P.kwargs) -> T:
        begun = time.perf_counter()
        try:
            return function(*args, **kwargs)
        finally:
            seconds.append(time.perf_counter() - begun)

    return clocked


def shares(folder: Path, freeze_mode: str, trials: int) -> tuple[float, float, float]:
    """Run a study and return the computing share of its epochs, of first epoch to last, and of all time."""
    images, weights = folder / "digits", write_weights(folder)
    configs = configurations(freeze_mode, LENGTHS[freeze_mode])
    write_space(configs * (trials // len(configs)), folder / "space.toml")
    backbone = "torchvision:squeezenet1_1"
    space = search_spaces.for_study(backbone, weights, folder / "space.toml")
    options = RunOptions(trials=trials, data_dir=str(folder / "data"), retrain=False)
    paths = StudyPaths(folder / "studies", freeze_mode)
    paths.folder.mkdir(parents=True)
    new = new_study(
        DataConfig(dataset=f"imagefolder:{images}"),
        ModelConfig(backbone=backbone, weights=weights, head="linear", image_size=96),
        SearchConfig(space=search_spaces.to_dict(space), asha=False),
        options,
        seed=0,
        skip_bad_images=False,
        geometry_of=None,
        exif=None,
        existing=None,
    )
    ledger = ledgers.create(f"sqlite:///{folder / 'optuna.db'}", freeze_mode, new.spec, options, new.splits)
    with ray_session("local"):
        placement, span = place(options, nodes()), Span()
        checkpoints = CheckpointPlace(freeze_mode, str(paths.checkpoints), shared=True)
        run_trials([StudyRun(ledger, options, paths, checkpoints, span)], placement, Interruption(""), TimedWorker)
    computed = sum(float(path.read_text()) for path in paths.folder.glob("*.seconds"))
    records = ledger.records()
    errors = {record.error for record in records} - {None}
    if span.first is None or errors:
        raise RuntimeError(f"trials failed: {errors}")
    processes = placement.concurrency
    return (
        computed / sum(result.seconds for record in records for result in record.curve),
        computed / ((span.ends[-1] - span.first) * processes),
        computed / ((time.perf_counter() - span.begun) * processes),
    )


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--trials", type=int, default=24)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_digits(folder / "digits")
        for freeze_mode in LENGTHS:
            epochs, first_to_last, study = shares(folder, freeze_mode, options.trials)
            sys.stdout.write(
                f"{freeze_mode}: {epochs:.2f} of the epochs, {first_to_last:.2f} from the first epoch to the last,"
                f" {study:.2f} with Ray's start and end\n"
            )
            sys.stdout.flush()


if __name__ == "__main__":
    # Of a module with a name, Ray sends the worker as a reference; by value torch would have to go with it.
    from benchmarks import efficiency

    efficiency.main()
