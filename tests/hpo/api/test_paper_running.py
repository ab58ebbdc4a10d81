"""Which studies a paper's page takes up, and what stands beside a grid."""

import dataclasses
import logging
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hpo.api.options import Location, MachineOptions
from hpo.api.paper import Paper, PaperOptions, plan_paper
from hpo.api.paper_running import _after, run_paper, write_paper
from hpo.errors import HpoError
from hpo.ledger import studies as ledgers
from hpo.ledger.ledger import Ledger
from hpo.paper.runs.collect import cells, outcome
from hpo.paper.runs.plan import PlannedStudy
from hpo.spec import RunOptions
from hpo.studies.lifecycle import Ended
from tests.makers import epoch, report, study_spec
from trainables.predictions import TEST_PREDICTIONS, pack

EXPERIMENT = """
name = "tiny"
title = "A small paper"
source = "Nobody, nowhere, never"
dataset = "digits"
backbones = ["resnet18", "resnet50"]

[[figures]]
id = "rates"
title = "Figure 1: learning rate"
kind = "bars"
varies = "learning_rate"
levels = [0.01, 0.001]
fixed = { batch_size = 64, freeze_mode = "none", epochs = 1 }
published = { resnet18 = [0.9, 0.8], resnet50 = [0.9, 0.8] }
"""
LABELS = np.arange(20) % 2


@pytest.fixture
def location(tmp_path: Path) -> Location:
    (tmp_path / "tiny.toml").write_text(EXPERIMENT, encoding="utf-8")
    return Location(studies_dir=tmp_path)


def planned(location: Location, **options: Any) -> Paper:
    return plan_paper(str(location.studies / "tiny.toml"), weights=["none"], options=PaperOptions(**options))


def measured(location: Location, study: PlannedStudy, **changes: Any) -> Ledger:
    """A study's ledger as its runs leave it."""
    spec = study_spec(
        **{
            "backbone": study.backbone,
            "trainable": "published",
            "seed": study.seed,
            "search": study.search.model_dump(),
            **changes,
        }
    )
    ledger = ledgers.create(location.url, study.name, spec, RunOptions(trials=len(study.runs)), {"classes": ["a", "b"]})
    extra = {TEST_PREDICTIONS: pack(LABELS), "test_labels": pack(LABELS), "test_epoch": 1.0}
    for _ in study.runs:
        trial = ledger.ask().number
        report(ledger, trial, epoch(1, 0.5, extra=extra))
        ledger.finish(trial, "COMPLETE")
    return ledger


def rows(page: Path) -> list[str]:
    return (page.parent / "tables" / "cells.csv").read_text(encoding="utf-8").splitlines()[1:]


def test_studies_of_other_images_or_weights_are_left_out_and_named(
    location: Location, caplog: pytest.LogCaptureFixture
) -> None:
    changes: dict[int, dict[str, Any]] = {
        1: {"weights_sha256": "1" * 64},
        2: {"image_size": 64},
        3: {"precision": "bf16"},
        4: {"splits_sha256": "2" * 64},
        5: {"exif": "turn"},
    }
    paper = planned(location, seeds=6)
    for study in paper.planned:
        measured(location, study, **changes.get(study.seed, {}))

    with caplog.at_level(logging.WARNING):
        of_seed_0 = tuple(one for one in paper.planned if not one.seed)
        page = write_paper(dataclasses.replace(paper, planned=of_seed_0), location, None, "hpo paper")

    assert len(rows(page)) == 4
    for study in paper.planned:
        for name in changes.get(study.seed, {}):
            (line,) = (one for one in caplog.messages if f"{study.name} is left out" in one)
            assert f".{name}: the study has" in line
    assert len(caplog.messages) == 10


def test_a_backbone_that_this_command_does_not_run_may_have_weights_of_its_own(location: Location) -> None:
    first, second = planned(location).planned
    measured(location, first)
    measured(location, second, weights_sha256="1" * 64)

    page = write_paper(dataclasses.replace(planned(location), planned=(first,)), location, None, "hpo paper")

    assert len(rows(page)) == 4


def test_nothing_of_the_plan_was_run(location: Location) -> None:
    first, second = planned(location).planned
    measured(location, second)

    with pytest.raises(HpoError, match="nothing was measured yet"):
        write_paper(dataclasses.replace(planned(location), planned=(first,)), location, None, "hpo paper")


@pytest.mark.parametrize(("on", "is_shown"), [("train", True), ("train+val", False)])
def test_a_final_model_that_learned_from_more_than_the_grid_is_left_out(
    location: Location, on: str, is_shown: bool, caplog: pytest.LogCaptureFixture
) -> None:
    ledger = measured(location, planned(location).planned[0])
    ledger.final = {"trial": 0, "on": on, "test_images": 20, "test_accuracy": 0.95}

    found = outcome(ledger)

    assert (found is not None and found.right == 19) == is_shown
    assert (f"hpo retrain {ledger.name} --on train" in caplog.text) != is_shown


def test_searches_have_what_the_grids_left_of_the_time(caplog: pytest.LogCaptureFixture) -> None:
    assert _after(MachineOptions(), 1e6, "hpo paper") == MachineOptions()
    assert _after(MachineOptions(timeout_s=60.0), 45.0, "hpo paper") == MachineOptions(timeout_s=15.0)
    assert _after(MachineOptions(timeout_s=60.0), 60.0, "hpo paper") is None
    assert "with: hpo paper" in caplog.text


def test_a_run_that_diverged_counts_as_it_was_judged(location: Location) -> None:
    (study, _) = planned(location, scale=3.0).planned
    ledger = measured(location, study)
    assert cells([study], {study.name: ledger}) == []

    diverged = ledgers.create(location.url, "diverged", ledger.spec, RunOptions(trials=2), {"classes": ["a", "b"]})
    extra = {TEST_PREDICTIONS: pack(1 - LABELS), "test_labels": pack(LABELS), "test_epoch": 2.0}
    for _ in study.runs:
        trial = diverged.ask().number
        report(diverged, trial, epoch(1))
        report(diverged, trial, epoch(2, val_loss=math.nan, extra=extra))
        diverged.finish(trial, "PRUNED")

    found = cells([study], {study.name: diverged})

    assert [(cell.point.epochs, cell.accuracy, cell.epoch, cell.diverged) for cell in found] == [(3, 0.0, 2, True)] * 2


def test_why_nothing_was_measured_is_said(location: Location, monkeypatch: pytest.MonkeyPatch) -> None:
    ended = Ended([], [HpoError("the disk is full")])
    monkeypatch.setattr("hpo.api.paper_running._together", lambda *_arguments: ended)

    with pytest.raises(HpoError, match="the disk is full"):
        run_paper(planned(location), machines=MachineOptions(), location=location, out=None, command="hpo paper")
