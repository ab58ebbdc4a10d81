"""How far the time left that a running study shows is off, in real studies.

``python -m benchmarks.time_left``: what was recorded of real studies (benchmarks/time_left_studies.json) is told to
`hpo.live.progress.Progress` again, event by event, with a clock that shows the time of the recording. At 25, 50 and
75 % of each study's time, from its first trial's start to the command's end, the retrain included, the estimate is
compared with the time that was left; beside it the estimate of hpo 0.2.0, the mean time per ended trial by those
missing.

``--record DIR [--only NAME]`` runs the studies with `hpo run`, two trials at a time, and writes the recording; DIR is a
data folder with Fashion-MNIST in it. It takes an hour on two CPU cores.
"""

import argparse
import dataclasses
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import RenderableType

from benchmarks.study import write_weights
from hpo.ledger import studies as ledgers
from hpo.ledger.ledger import Ledger
from hpo.ledger.records import Assignment
from hpo.live.progress import Progress
from hpo.live.screen import Screen
from hpo.machines.placement import Slot
from hpo.spec import RunOptions, StudySpec
from hpo.views.time_left import TimeLeft
from trainables.config import EpochResult

RECORDING = Path(__file__).with_name("time_left_studies.json")
SHARES = (0.25, 0.5, 0.75)
MODES = 'freeze_mode = { choices = ["none", "partial", "backbone"] }\n'
SPACE = """
[parameters]
learning_rate = {{ low = 1e-4, high = 1e-2, log = true }}
batch_size = {{ choices = [32, 64, 128] }}
epochs = {{ low = {low}, high = {high}, step = {step} }}
"""
SHORT, LONG = ({"low": low, "high": high, "step": step} for low, high, step in ((4, 12, 4), (8, 40, 8)))


@dataclass(frozen=True)
class Study:
    """A study that is recorded."""

    options: str
    """Of `hpo run`."""
    epochs: dict[str, int]
    modes: str = MODES


SQUEEZENET = "--backbone torchvision:squeezenet1_1 --weights squeezenet.pth --head linear --image-size 32"
STUDIES = {
    "digits, small network": Study(
        "--backbone tests.tiny_backbone:tiny --dataset digits --image-size 16 --trials 40", LONG
    ),
    "digits, small network, no ASHA": Study(
        "--backbone tests.tiny_backbone:tiny --dataset digits --image-size 16 --trials 20 --no-asha", LONG
    ),
    "digits, SqueezeNet": Study(f"{SQUEEZENET} --dataset digits --trials 16", SHORT),
    "digits, SqueezeNet, random": Study(f"{SQUEEZENET} --dataset digits --trials 16 --sampler random --seed 1", SHORT),
    "digits, ResNet-18 fine-tuned": Study(
        "--backbone resnet18 --weights none --dataset digits --image-size 32 --trials 8 --seed 2",
        SHORT,
        'freeze_mode = "none"\n',
    ),
    "Fashion-MNIST, small network": Study(
        "--backbone tests.tiny_backbone:tiny --dataset fashion-mnist --image-size 28 --label-fraction 0.05"
        " --val-fraction 0.05 --trials 30 --seed 3",
        LONG,
    ),
    "Fashion-MNIST, SqueezeNet": Study(
        f"{SQUEEZENET} --dataset fashion-mnist --label-fraction 0.03 --val-fraction 0.03 --trials 12 --seed 4", SHORT
    ),
    "Fashion-MNIST, ResNet-18": Study(
        "--backbone resnet18 --weights none --dataset fashion-mnist --image-size 32 --label-fraction 0.03"
        " --val-fraction 0.03 --trials 8 --seed 5",
        SHORT,
        'freeze_mode = "none"\n',
    ),
}


class Recorder:
    """A study's progress that keeps what it is told, and when."""

    def __init__(self, screen: Screen, ledger: Ledger, options: RunOptions, *, alone: bool) -> None:
        self._progress = Progress(screen, ledger, options, alone=alone)
        self.ledger, self.options = ledger, options
        self.events: list[list[Any]] = []
        recorders.append(self)

    def started(self, assignment: Assignment) -> None:
        """A trial starts."""
        self._keep("started", dataclasses.asdict(assignment))
        self._progress.started(assignment)

    def epoch(self, number: int, result: EpochResult, slot: Slot) -> None:
        """A trial reports an epoch."""
        figures = {"epoch": result.epoch, "val_accuracy": result.val_accuracy, "seconds": round(result.seconds, 4)}
        self._keep("epoch", {"number": number, **figures})
        self._progress.epoch(number, result, slot)

    def restarted(self, number: int, reason: str) -> None:
        """A trial starts again."""
        self._progress.restarted(number, reason)

    def ended(self, number: int, state: str, error: str | None) -> None:
        """A trial ends."""
        self._keep("ended", {"number": number, "state": state})
        self._progress.ended(number, state, error)

    def retrained(self, result: EpochResult, epochs: int) -> None:
        """The retrain has an epoch."""
        self._keep("retrained", {"epoch": result.epoch, "epochs": epochs, "seconds": round(result.seconds, 4)})
        self._progress.retrained(result, epochs)

    def draw(self, width: int, height: int, *, ascii_only: bool) -> list[RenderableType]:
        """Show the study."""
        return self._progress.draw(width, height, ascii_only=ascii_only)

    def recording(self) -> dict[str, Any]:
        """Return all of it, ended now."""
        self._keep("end", {})
        spec = self.ledger.spec.model_dump(mode="json")
        kept = {name: self.ledger.splits[name] for name in ("train", "validation")}
        return {"spec": spec, "trials": self.options.trials, "splits": kept, "events": self.events}

    def _keep(self, kind: str, about: dict[str, Any]) -> None:
        self.events.append([round(time.monotonic(), 3), kind, about])


recorders: list[Recorder] = []


def run_one(name: str, file: Path) -> None:
    """Run a study as `hpo run` does and write what its progress was told."""
    from hpo.cli.main import main as command_line
    from hpo.studies import lifecycle

    study = STUDIES[name]
    write_weights(Path())
    Path("space.toml").write_text(SPACE.format(**study.epochs) + study.modes, encoding="utf-8")
    sys.argv = ["hpo", "run", *study.options.split(), "--space", "space.toml", "--study", "recorded"]
    lifecycle.Progress = Recorder  # type: ignore[attr-defined, assignment] # it does what a Progress does
    try:
        command_line()
    except SystemExit as end:
        if end.code:
            raise
    (recorder,) = recorders
    file.write_text(json.dumps(recorder.recording()), encoding="utf-8")


def record(data_dir: Path, only: str | None) -> None:
    """Run the studies one after the other, and add what was recorded to the file."""
    known = json.loads(RECORDING.read_text("utf-8")) if RECORDING.exists() else {}
    root = str(Path(__file__).parents[1])
    for name in STUDIES if only is None else (only,):
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / "events.json"
            command = [sys.executable, "-m", "benchmarks.time_left", "--one", name, str(file)]
            environment = {**os.environ, "PYTHONPATH": root, "HPO_DATA_DIR": str(data_dir.absolute())}
            subprocess.run(command, cwd=folder, env=environment, check=True, stdout=subprocess.DEVNULL)
            known[name] = json.loads(file.read_text("utf-8"))
        RECORDING.write_text(json.dumps(known, separators=(",", ":")) + "\n", encoding="utf-8")


@dataclass(frozen=True)
class Estimate:
    """What was shown at some moment, and what was true."""

    left: TimeLeft | None
    before: float | None
    """By the way of hpo 0.2.0."""
    true: float

    @property
    def error(self) -> float:
        """The estimate's relative error; none counts as wrong by all."""
        return abs(self.left.seconds - self.true) / self.true if self.left else 1.0

    @property
    def error_before(self) -> float:
        """The same of the former way."""
        return abs(self.before - self.true) / self.true if self.before is not None else 1.0

    @property
    def is_within(self) -> bool:
        """Whether the truth lies in the range that was shown."""
        return self.left is not None and self.left.low <= self.true <= self.left.high


def replay(recording: dict[str, Any], folder: Path, shares: Sequence[float] = SHARES) -> list[Estimate]:
    """Tell a study's events again, and return the estimates at `shares` of its time."""
    events = recording["events"]
    first, last = events[0][0], events[-1][0]
    now = first
    options = RunOptions(trials=recording["trials"])
    spec = StudySpec.model_validate(recording["spec"])
    ledger = ledgers.create(f"sqlite:///{folder / 'replay.db'}", "replay", spec, options, recording["splits"])
    with open(os.devnull, "w", encoding="utf-8") as nowhere:  # noqa: PTH123 - a name, not a path
        screen = Screen()
        screen.console.file = nowhere
        progress = Progress(screen, ledger, options, alone=True, clock=lambda: now)
        estimates, ended, waiting = [], 0, list(shares)
        for at, kind, about in events:
            while waiting and first + waiting[0] * (last - first) < at:
                now = first + waiting.pop(0) * (last - first)
                missing = recording["trials"] - ended
                before = (now - first) / ended * missing if ended and missing else None
                estimates.append(Estimate(progress.time_left(), before, last - now))
            now = at
            ended += kind == "ended"
            tell(progress, kind, about)
    ledgers.delete_unbegun(f"sqlite:///{folder / 'replay.db'}", "replay")
    return estimates


def tell(progress: Progress, kind: str, about: dict[str, Any]) -> None:
    """Tell an event."""
    rest: dict[str, Any] = {"val_loss": 0.0, "train_loss": 0.0, "learning_rate": 0.0, "images_per_second": 0.0}
    if kind == "started":
        progress.started(Assignment(**about))
    elif kind == "ended":
        progress.ended(about["number"], about["state"], None)
    elif kind == "retrained":
        result = EpochResult(epoch=about["epoch"], seconds=about["seconds"], val_accuracy=0.0, **rest)
        progress.retrained(result, about["epochs"])
    elif kind == "epoch":
        figures = {name: about[name] for name in ("epoch", "seconds", "val_accuracy")}
        progress.epoch(about["number"], EpochResult(**figures, **rest), Slot("127.0.0.1", "cpu (x86_64)"))


def table(recordings: dict[str, dict[str, Any]]) -> Iterator[str]:
    """Yield the lines of a Markdown table, the medians last."""
    yield f"| study | s | {' | '.join(f'at {share:.0%}: left, shown (range), error' for share in SHARES)} |"
    yield f"|---|---:|{'---:|' * len(SHARES)}"
    every: list[list[Estimate]] = []
    for name, recording in recordings.items():
        with tempfile.TemporaryDirectory() as folder:
            estimates = replay(recording, Path(folder))
        every.append(estimates)
        seconds = recording["events"][-1][0] - recording["events"][0][0]
        yield f"| {name} | {seconds:.0f} | {' | '.join(map(_cell, estimates))} |"
    at = list(zip(*every, strict=True))
    medians = [statistics.median(one.error for one in column) for column in at]
    before = [statistics.median(one.error_before for one in column) for column in at]
    within = [sum(one.is_within for one in column) / len(column) for column in at]
    yield f"| median error | | {' | '.join(f'{value:.0%}' for value in medians)} |"
    yield f"| median error, hpo 0.2.0 | | {' | '.join(f'{value:.0%}' for value in before)} |"
    yield f"| within the range | | {' | '.join(f'{value:.0%}' for value in within)} |"


def _cell(one: Estimate) -> str:
    if one.left is None:
        return f"{one.true:.0f}, -"
    return f"{one.true:.0f}, {one.left.seconds:.0f} ({one.left.low:.0f} to {one.left.high:.0f}), {one.error:.0%}"


def main() -> None:
    """Record, or print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--record", type=Path, metavar="DIR")
    parser.add_argument("--only", choices=STUDIES)
    parser.add_argument("--one", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        run_one(options.one[0], Path(options.one[1]))
    elif options.record:
        record(options.record, options.only)
    else:
        for line in table(json.loads(RECORDING.read_text("utf-8"))):
            print(line)  # noqa: T201


if __name__ == "__main__":
    main()
