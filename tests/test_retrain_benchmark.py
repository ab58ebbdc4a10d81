"""The retrain's benchmark measures what it says it does."""

import dataclasses
from pathlib import Path

import pytest

from benchmarks.retrain import draw, study
from benchmarks.retrain_data import Task, cosine
from benchmarks.retrain_tables import BEST, COSINE, OBJECTIVES, OWN, QUARTER, TODAY, choose, median_of_three, shown


def test_a_spike_of_one_epoch_does_not_move_the_median_of_three() -> None:
    assert median_of_three([0.1, 0.9, 0.2, 0.3]) == [0.5, 0.2, 0.3, 0.25]


def test_objectives_choose_among_trials() -> None:
    spiky = {"curve": [0.1, 0.9, 0.2, 0.3], "averaged_curve": [0.1, 0.5, 0.4, 0.4]}
    steady = {"curve": [0.5, 0.7, 0.8, 0.8], "averaged_curve": [0.5, 0.6, 0.7, 0.8]}

    assert {name: choose([spiky, steady], name) for name in OBJECTIVES} == {
        "best epoch": 0,
        "best median of three epochs": 1,
        "best epoch of averaged weights": 1,
        "last epoch": 1,
    }


def test_the_rate_falls_to_zero_behind_the_flat_epochs() -> None:
    config = draw(Task("digits", "file.safetensors"), "backbone", 0, "/nowhere")[0]

    rates = cosine(config, 4, flat=2)

    assert [rate / config.learning_rate for rate in rates] == pytest.approx([1, 1, 1, 0.5])


def test_a_retrain_is_tested_in_every_way(tmp_path: Path) -> None:
    config = dataclasses.replace(draw(Task("digits", ""), "random", 0, str(tmp_path))[0], epochs=4)

    row = {"dataset": "digits", "start": "random", "seed": 0, **study([config, config])}

    assert {OWN, BEST, TODAY, QUARTER, COSINE} <= row["test"].keys()
    assert "### digits" in shown([row, row])
    assert "best median of three epochs | 0 of 2" in shown([row, row])
