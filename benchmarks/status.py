"""How long `hpo status` takes over many studies: ``python -m benchmarks.status [--studies 100] [--trials 100]``.

The studies are written through Optuna's storage into SQLite, each trial with a curve of ten epochs; nothing is trained.
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
from contextlib import closing
from pathlib import Path

import optuna
from optuna.distributions import CategoricalDistribution, FloatDistribution

import search_spaces
from hpo.ledger import studies as ledgers
from hpo.ledger.records import Place, as_row
from hpo.spec import RunOptions, SearchConfig, StudySpec
from trainables.config import FREEZE_MODES, DataConfig, EpochResult, ModelConfig

EPOCHS = 10
REPETITIONS = 5
_COUNTED = {"study_id": "studies", "trial_id": "trials"}
"""The table whose rows a key counts; others count those of their own."""


def main() -> None:
    """Write the studies, list them, and print seconds."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--studies", type=int, default=100)
    parser.add_argument("--trials", type=int, default=100)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        write_study(f"sqlite:///{folder / 'optuna.db'}", "study-0", options.trials)
        multiply(folder / "optuna.db", options.studies)
        seconds, processor = zip(*(timed(folder) for _ in range(REPETITIONS)), strict=True)
    print(  # noqa: T201 - the result
        json.dumps(
            {
                **vars(options),
                "seconds": [round(one, 2) for one in sorted(seconds)],
                "median_s": round(statistics.median(seconds), 2),
                "median_cpu_s": round(statistics.median(processor), 2),
            }
        )
    )


def timed(folder: Path) -> tuple[float, float]:
    """Return the seconds that one `hpo status` took, on the clock and of processors."""
    before, begun = os.times(), time.monotonic()
    command = [sys.executable, "-m", "hpo", "status", "--studies-dir", str(folder)]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    seconds, after = time.monotonic() - begun, os.times()
    return seconds, after.children_user + after.children_system - before.children_user - before.children_system


def write_study(url: str, name: str, trials: int) -> None:
    """Create a study whose trials have ended, three in four of them PRUNED."""
    space = search_spaces.builtin("resnet50", "default")
    spec = StudySpec(
        data=DataConfig(dataset="pets"),
        model=ModelConfig(backbone="resnet50", image_size=224),
        search=SearchConfig(space=search_spaces.to_dict(space)),
        seed=0,
    )
    ledgers.create(url, name, spec, RunOptions(trials=trials), {"train": 2760, "validation": 920})
    study = optuna.load_study(study_name=name, storage=url)
    freeze_modes = CategoricalDistribution(FREEZE_MODES)
    distributions = {"learning_rate": FloatDistribution(1e-6, 1.0, log=True), "freeze_mode": freeze_modes}
    for number in range(trials):
        ends = "PRUNED" if number % 4 else "COMPLETE"
        values = {epoch: (number % 97 + epoch) / 200 for epoch in range(1, EPOCHS + 1)}
        curve = [as_row(an_epoch(epoch, value), Place("10.0.0.1", "cuda:0"), 0.0) for epoch, value in values.items()]
        study.add_trial(
            optuna.trial.create_trial(
                state=optuna.trial.TrialState[ends],
                value=max(values.values()) if ends == "COMPLETE" else None,
                params={"learning_rate": 1e-4, "freeze_mode": "none"},
                distributions=distributions,
                intermediate_values=values,
                user_attrs={"curve": curve, "host": "10.0.0.1", "device": "cuda:0", "best_epoch": EPOCHS},
            )
        )


def multiply(database: Path, studies: int) -> None:
    """Copy the rows of the one study of a database until it has `studies`; through Optuna it would take an hour."""
    with closing(sqlite3.connect(database)) as connection:
        names = [name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        tables = {name: [row[1] for row in connection.execute(f"PRAGMA table_info({name})")] for name in names}
        counts = {name: connection.execute(f"SELECT count(*) FROM {name}").fetchone()[0] for name in tables}
        for name, columns in tables.items():
            if "study_id" not in columns and "trial_id" not in columns:
                continue
            rows = connection.execute(f"SELECT * FROM {name}").fetchall()
            for study in range(1, studies):
                shifted = [
                    tuple(
                        f"study-{study}"
                        if column == "study_name"
                        else value + study * counts[_COUNTED.get(column, name)]
                        if column.endswith("_id")
                        else value
                        for column, value in zip(columns, row, strict=True)
                    )
                    for row in rows
                ]
                places = ", ".join("?" * len(columns))
                connection.executemany(f"INSERT INTO {name} VALUES ({places})", shifted)
        connection.commit()


def an_epoch(epoch: int, accuracy: float) -> EpochResult:
    """Return an epoch of invented figures."""
    return EpochResult(
        epoch=epoch,
        train_loss=1.0,
        val_loss=1.0,
        val_accuracy=accuracy,
        learning_rate=0.001,
        seconds=1.0,
        images_per_second=100.0,
    )


if __name__ == "__main__":
    main()
