"""Tables of studies: what is compared, and in which order."""

import io
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from hpo.ledger.records import State
from hpo.views.summary import StudySummary
from hpo.views.tables import final_lines, show_comparison, show_studies, show_study
from hpo.views.time_left import TimeLeft
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


def test_the_last_lines_say_what_can_be_concluded() -> None:
    final = {
        "test_accuracy": 0.95,
        "test_accuracy_ci95": [0.92, 0.97],
        "test_images": 360,
        "test_looks": 1,
        "seeds": {"test_accuracies": [0.95], "mean": 0.95, "stdev": None},
        "validation": {
            "above_test": 0.02,
            "above_test_ci95": [-0.01, 0.05],
            "tied_trials": [3, 7],
            "compared_trials": 9,
        },
    }

    assert final_lines(final).splitlines() == [
        "held-out test accuracy 0.9500 (95 % interval 0.9200 to 0.9700, 360 images; the first look at test data in this"
        " study)",
        "its trial's validation accuracy was 0.0200 above that, within chance (95 % interval -0.0100 to +0.0500)",
        "2 of 9 other trials are tied with it on validation: 3, 7 (McNemar's test on the same images, p >= 0.05)",
    ]


LEFT = TimeLeft(3700.0, 3000.0, 9000.0)


@pytest.mark.parametrize("name", ["pets", "a-study-" * 12, "犬の研究" * 9])
def test_names_stay_whole_on_a_narrow_screen(name: str) -> None:
    shown, compared = io.StringIO(), io.StringIO()
    states: dict[State, int] = {"COMPLETE": 12, "PRUNED": 30, "FAIL": 0, "RUNNING": 2}
    one = StudySummary(name, "torchvision:efficientnet_v2_s", "imagefolder:/a/b/c", states, 50, 0.9312, 0.9, LEFT)

    show_studies([one], Console(file=shown, width=80))
    show_comparison([summary(name, 0.95, 0.93)], Console(file=compared, width=40))

    for cell in (name, "torchvision:efficientnet_v2_s", "0.9312"):
        assert cell in shown.getvalue()
    for cell in (name, "resnet18", "0.9200 to 0.9400"):
        assert cell in compared.getvalue()
