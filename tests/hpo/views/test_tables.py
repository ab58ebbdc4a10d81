"""Tables of studies: what is compared, and in which order."""

import io
from pathlib import Path
from typing import Any

from rich.console import Console

from hpo.views.tables import show_comparison, show_study
from tests.makers import moved_trial


def summary(study: str, validation: float, test: float | None) -> dict[str, Any]:
    final = None if test is None else {"test_accuracy": test, "test_accuracy_ci95": [test - 0.01, test + 0.01]}
    best = {"number": 0, "val_accuracy": validation, "best_epoch": 1, "params": {}}
    return {"study": study, "backbone": "resnet18", "trials": {"complete": 3}, "best": best, "final": final}


def test_studies_are_compared_by_validation_and_test_stands_beside_it() -> None:
    console = Console(record=True, width=160)
    studies = [summary("lucky", 0.90, 0.97), summary("best", 0.95, 0.93), summary("untested", 0.80, None)]

    show_comparison(studies, console)

    rows = console.export_text().splitlines()[1:]
    assert [row.split()[0] for row in rows] == ["best", "lucky", "untested"]
    assert "0.9700" in rows[1]


def test_a_trial_that_moved_shows_every_machine_that_took_part(tmp_path: Path) -> None:
    shown = io.StringIO()

    show_study(moved_trial(tmp_path), Console(file=shown, width=160))

    header, row = shown.getvalue().splitlines()
    assert header.split()[-1] == "host"
    assert row.rstrip().endswith("10.0.0.1 10.0.0.2")
