"""Kills a study at seeded random moments, resumes it, and checks that nothing was lost, doubled or left behind.

``python -m tests.e2e.chaos`` (``make chaos``) runs the long form and prints a table; a test runs the short one.
"""

import argparse
import dataclasses
import logging
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from hpo.ledger import studies as ledgers
from hpo.ledger.records import TrialRecord
from hpo.spec import RunOptions, StudySpec, trial_config, trial_seed
from tests.e2e.shell import Shell
from tests.postgres import postgres_server
from trainables.training.trial import run_trial

_log = logging.getLogger(__name__)
TRIALS = 30
KINDS = ("driver", "trial", "raylet", "all")
SPACE = """
[parameters]
learning_rate = { low = 1e-4, high = 1e-2, log = true }
batch_size = { choices = [8, 16] }
epochs = { low = 6, high = 18, step = 6 }
freeze_mode = { choices = ["none", "partial", "backbone"] }
"""
GRACE_PERIOD, REDUCTION_FACTOR = 2, 3
MILESTONES = (2, 6, 18)
ORPHAN_S = 120.0
"""Ray's agents try for a minute to report the death of their raylet, also to nobody, before they end."""
_WAIT_S, _STUDY_S = 600.0, 3600.0
"""For an epoch and for a whole study, on a machine that does other work too."""


@dataclass
class Report:
    """The result of one or more studies under fire."""

    studies: int = 0
    trials: int = 0
    kills: Counter[str] = field(default_factory=Counter)
    epochs: int = 0
    epochs_lost: int = 0
    """Epochs that the ledger had before a kill and had not afterwards."""
    duplicates: int = 0
    wrong_states: int = 0
    wrong_curves: int = 0
    """Trials whose curve is not, number for number, that of the same trial undisturbed."""
    wrong_ends: int = 0
    """Trials that ended neither at their last epoch nor at a rung."""
    orphans: int = 0
    """Ray processes that outlived their study's driver."""
    leaked_files: int = 0
    seconds_to_epoch: list[float] = field(default_factory=list)
    """Seconds from each `hpo resume` to its first new epoch."""

    def __iadd__(self, other: "Report") -> "Report":
        for one in dataclasses.fields(self):
            setattr(self, one.name, getattr(self, one.name) + getattr(other, one.name))
        return self

    @property
    def faults(self) -> int:
        """Everything that must be zero."""
        wrong = self.wrong_states + self.wrong_curves + self.wrong_ends
        return self.epochs_lost + self.duplicates + wrong + self.orphans + self.leaked_files


def attack(parent: Path, seed: int, kills: int, per_study: int = 7, postgres: bool = False) -> Report:
    """Attack studies in folders below `parent`, one after another, until there were `kills` kills.

    A study may outrun its kills: without their raylet, trials continue until Ray's death is noticed.
    """
    report = Report()
    while (missing := kills - report.kills.total()) > 0:
        folder = parent / f"study-{report.studies}"
        folder.mkdir()
        with postgres_server(folder) if postgres else nullcontext() as server:
            shell = Shell(folder, SPACE, server.url if server else None)
            report += attack_study(shell, seed + report.studies, min(missing, per_study))
        _log.info("%d of %d kills", report.kills.total(), kills)
    return report


def attack_study(shell: Shell, seed: int, kills: int) -> Report:
    """Run one study of `TRIALS` trials, kill it up to `kills` times, let it finish, and check it."""
    chance = random.Random(seed)
    report = Report(studies=1)
    command = shell.asked(
        *("--seed", str(seed), "--grace-period", str(GRACE_PERIOD), "--reduction-factor", str(REDUCTION_FACTOR)),
        *("--no-retrain", "--max-failures", "9", "--precision", "fp32"),
        trials=TRIALS,
    )
    struck: list[psutil.Process] = []
    process = shell.start(*command)
    try:
        for _ in range(kills):
            if not wait_for_epoch(shell, process):
                break
            process = strike_once(shell, process, chance, report, struck)
        process.communicate(timeout=_STUDY_S)
    finally:
        struck += strike(process, "all")
    shell.hpo("resume", "tiny")
    check(shell, report)
    report.orphans += count_orphans(struck)
    return report


def count_orphans(struck: list[psutil.Process]) -> int:
    """Return how many of Ray's processes outlive their driver by `ORPHAN_S`, and end those."""
    _, alive = psutil.wait_procs(struck, timeout=ORPHAN_S)
    for survivor in alive:
        kill(survivor)
    return len(alive)


def strike_once(
    shell: Shell, process: subprocess.Popen[str], chance: random.Random, report: Report, struck: list[psutil.Process]
) -> subprocess.Popen[str]:
    """Wait for a moment, kill something, and return the process that runs the study from then on."""
    time.sleep(chance.uniform(0, 1))
    kind = chance.choice(KINDS)
    deadline = time.monotonic() + _WAIT_S
    while kind == "trial" and process.poll() is None and not parts(process, kind):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    if process.poll() is not None:
        return process
    before = known_epochs(shell)
    report.kills[kind] += 1
    if kind == "trial":
        # The study takes it up again by itself.
        kill(chance.choice(parts(process, kind)))
    else:
        struck += strike(process, kind)
        begun, process = time.monotonic(), shell.start("resume", "tiny")
        if wait_for_epoch(shell, process):
            report.seconds_to_epoch.append(time.monotonic() - begun)
        elif process.returncode != 0:
            raise AssertionError(process.communicate())
    report.epochs_lost += (before - known_epochs(shell)).total()
    return process


def strike(process: subprocess.Popen[str], kind: str) -> list[psutil.Process]:
    """Kill a part of a running study that it cannot do without, and return all that were below its driver."""
    if process.poll() is not None:
        return []
    tree = parts(process, "all")
    for victim in tree if kind == "all" else parts(process, kind):
        kill(victim)
    if kind != "raylet":
        process.kill()
    process.communicate(timeout=_WAIT_S)
    return tree


def parts(process: subprocess.Popen[str], kind: str) -> list[psutil.Process]:
    """Return the processes below the driver that are of a kind; the driver itself is none of them."""
    belongs: dict[str, Callable[[str], bool]] = {
        "driver": lambda _: False,
        "trial": lambda line: line.startswith("ray::") and not line.endswith(("Agent", "IDLE")),
        "raylet": lambda line: "raylet/raylet" in line,
        "all": lambda _: True,
    }
    return [one for one in psutil.Process(process.pid).children(recursive=True) if belongs[kind](command_line(one))]


def kill(process: psutil.Process) -> None:
    """End a process that may have ended by itself."""
    try:
        process.kill()
    except psutil.NoSuchProcess:
        return


def command_line(process: psutil.Process) -> str:
    try:
        return " ".join(process.cmdline())
    except (psutil.NoSuchProcess, psutil.ZombieProcess):
        return ""


def check(shell: Shell, report: Report) -> None:
    """Look at the finished study through its ledger, and run each of its trials again, undisturbed."""
    ledger = ledgers.open_study(shell.url, "tiny")
    records = ledger.records()
    report.trials += len(records)
    report.wrong_states += abs(len(records) - TRIALS)
    for record in records:
        epochs = [result.epoch for result in record.curve]
        report.epochs += len(epochs)
        report.duplicates += len(epochs) - len(set(epochs))
        report.epochs_lost += len(set(range(1, max(epochs, default=0) + 1)) - set(epochs))
        report.wrong_states += record.state not in ("COMPLETE", "PRUNED")
        whole = len(epochs) == record.params["epochs"]
        report.wrong_ends += not (whole if record.state == "COMPLETE" else len(epochs) in MILESTONES)
        report.wrong_curves += numbers(record) != undisturbed(ledger.spec, record, shell.folder / "data")
    report.leaked_files += len(list(leftovers(shell.folder)))


def undisturbed(spec: StudySpec, record: TrialRecord, data: Path) -> list[tuple[float, ...]]:
    """Train the trial of `record` here, without Ray, for as many epochs as it has."""
    options = RunOptions(trials=1, data_dir=str(data))
    config = trial_config(spec, options, record.params, trial_seed(spec, record.number), 1, None)
    epochs = run_trial(config)
    return [_numbers(next(epochs)) for _ in record.curve]


def numbers(record: TrialRecord) -> list[tuple[float, ...]]:
    return [_numbers(result) for result in record.curve]


def _numbers(result: object) -> tuple[float, ...]:
    names = ("epoch", "val_accuracy", "val_loss", "train_loss", "learning_rate")
    return tuple(getattr(result, name) for name in names)


def leftovers(folder: Path) -> Iterator[Path]:
    """Yield the files that a finished study must not leave."""
    study = folder / "studies" / "tiny"
    yield from (study / "checkpoints").glob("*")
    yield from study.glob(".final-*")
    yield from (path for path in (study / ".ray",) if path.exists())
    yield from folder.rglob("*.partial")


def known_epochs(shell: Shell) -> Counter[tuple[int, int]]:
    """Return (trial, epoch) of each value in the ledger, as plain Optuna counts them."""
    if not shell.has_study():
        return Counter()
    return Counter((trial.number, epoch) for trial in shell.trials() for epoch in trial.intermediate_values)


def wait_for_epoch(shell: Shell, process: subprocess.Popen[str]) -> bool:
    """Wait for another epoch in the ledger; False where `process` ended before it came."""
    before = known_epochs(shell)
    deadline = time.monotonic() + _WAIT_S
    while known_epochs(shell) == before:
        if process.poll() is not None:
            return False
        if time.monotonic() > deadline:
            process.kill()
            raise TimeoutError(process.communicate())
        # Looking costs time that the study needs.
        time.sleep(0.2)
    return True


def table(report: Report) -> str:
    """Return the report as a table in Markdown."""
    seconds = report.seconds_to_epoch
    rows: list[tuple[str, float]] = [
        ("studies", report.studies),
        ("trials", report.trials),
        *((f"kills: {kind}", report.kills[kind]) for kind in KINDS),
        ("epochs in the ledgers", report.epochs),
        ("epochs lost, beyond those in flight", report.epochs_lost),
        ("duplicate epochs", report.duplicates),
        ("wrong states or counts", report.wrong_states),
        ("curves unlike the undisturbed trial's", report.wrong_curves),
        ("ends neither at the last epoch nor at a rung", report.wrong_ends),
        ("orphaned processes", report.orphans),
        ("leaked files", report.leaked_files),
    ]
    if seconds:
        rows.append(("`hpo resume` to the first new epoch, median s", round(statistics.median(seconds), 1)))
        rows.append(("the same, longest", round(max(seconds), 1)))
    return "\n".join(["| | |", "|---|---:|", *(f"| {name} | {value} |" for name, value in rows)])


def main() -> int:
    """Attack several studies and print the result; 1 where anything was wrong."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--kills", type=int, default=28, help="in all")
    parser.add_argument("--kills-per-study", type=int, default=7)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--postgres", action="store_true", help="keep the ledgers in a PostgreSQL server")
    options = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    with tempfile.TemporaryDirectory() as folder:
        report = attack(Path(folder), options.seed, options.kills, options.kills_per_study, options.postgres)
    sys.stdout.write(table(report) + "\n")
    return 1 if report.faults else 0


if __name__ == "__main__":
    sys.exit(main())
