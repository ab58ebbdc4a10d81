"""Seconds from the command to its first line, to its first trial and to its first epoch in the ledger.

``python -m benchmarks.first_epoch [--runs 5] [--checkout DIR]``: `hpo run` as a user starts it, on scikit-learn's
digits: the head of a frozen SqueezeNet at 64 px, and all of a ResNet-18 at 32 px. Every study is new; what is stored
once per machine is there, for the first run of each kind is not counted. The first epoch's own seconds are those that
its trial reports; CPU seconds are those of all processes until then. ``--checkout`` runs the code of another folder.
"""

import argparse
import json
import os
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import closing, suppress
from dataclasses import astuple, dataclass, fields
from pathlib import Path

import psutil

from benchmarks.study import tree, write_weights

ROOT = Path(__file__).parents[1]
SPACE = "[parameters]\nlearning_rate = 1e-3\nbatch_size = 64\nepochs = 2\nfreeze_mode = '{}'\n"
KINDS = {
    "backbone": "--backbone torchvision:squeezenet1_1 --weights squeezenet.pth --image-size 64",
    "none": "--backbone resnet18 --weights none --image-size 32",
}
"""Options by freeze mode."""
LOOK_S = 0.1


@dataclass(frozen=True)
class Start:
    """One command's start, in seconds."""

    first_line: float
    """Until it says something."""
    first_trial: float
    """Until its first trial is there, without an epoch."""
    first_epoch: float
    """Until an epoch is in the ledger."""
    epoch: float
    """What that epoch took by itself."""
    cpu: float
    """CPU time of all its processes until the first epoch was there, which other programs disturb less."""


def start(folder: Path, freeze_mode: str, checkout: Path, name: str) -> Start:
    """Run a new study of two trials until an epoch is in its ledger, and let it end."""
    (folder / "space.toml").write_text(SPACE.format(freeze_mode), encoding="utf-8")
    database = folder / f"{name}.db"
    command = (
        *("run", "--dataset", "digits", "--space", "space.toml", "--trials", "2", "--no-retrain", "--study", name),
        *("--storage", f"sqlite:///{database}", *KINDS[freeze_mode].split()),
    )
    begun = time.perf_counter()
    process = subprocess.Popen(
        [sys.executable, "-m", "hpo", *command],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(checkout), "HPO_DATA_DIR": str(folder / "data")},
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        text=True,
    )
    assert process.stderr is not None
    process.stderr.readline()
    first_line = time.perf_counter() - begun
    first_trial = first_epoch = None
    cpu: dict[int, float] = {}
    while first_epoch is None:
        time.sleep(LOOK_S)
        for one in tree(process.pid):
            with suppress(psutil.Error):
                cpu[one.pid] = sum(one.cpu_times()[:2])
        if process.poll() is not None:
            raise RuntimeError(process.stderr.read())
        trials = list(_curves(database))
        if trials and first_trial is None:
            first_trial = time.perf_counter() - begun
        if any(trials):
            first_epoch = time.perf_counter() - begun
    epoch = min(curve[0]["seconds"] for curve in _curves(database) if curve)
    process.communicate()
    return Start(first_line, first_trial or first_epoch, first_epoch, epoch, sum(cpu.values()))


def _curves(database: Path) -> Iterator[list[dict[str, float]]]:
    """Yield the epochs of each trial, as the ledger has them so far."""
    if not database.exists():
        return
    query = (
        "SELECT value_json FROM trials LEFT JOIN trial_user_attributes"
        " ON trials.trial_id = trial_user_attributes.trial_id AND key = 'curve'"
    )
    try:
        with closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True)) as connection:
            for (curve,) in connection.execute(query).fetchall():
                yield json.loads(curve or "[]")
    except sqlite3.OperationalError:
        # Its tables are being made.
        return


def main() -> None:
    """Print a line for each freeze mode."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--checkout", type=Path, default=ROOT)
    options = parser.parse_args()
    names = [field.name.replace("_", " ") for field in fields(Start)]
    print(f"{'freeze mode':12}" + "".join(f"{name:>22}" for name in names))  # noqa: T201
    with tempfile.TemporaryDirectory() as scratch:
        write_weights(Path(scratch))
        for freeze_mode in KINDS:
            starts = [
                start(Path(scratch), freeze_mode, options.checkout.absolute(), f"{freeze_mode}-{run}")
                for run in range(options.runs + 1)
            ][1:]
            columns = zip(*map(astuple, starts), strict=True)
            print(f"{freeze_mode:12}" + "".join(f"{_spread(column):>22}" for column in columns), flush=True)  # noqa: T201


def _spread(seconds: Sequence[float]) -> str:
    return f"{statistics.median(seconds):.1f} ({min(seconds):.1f} to {max(seconds):.1f})"


if __name__ == "__main__":
    main()
