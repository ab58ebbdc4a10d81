"""A final model is checked before it looks at test."""

import tomllib
from pathlib import Path
from typing import Any, cast

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure

from hpo.final import files
from hpo.final.metrics import measure
from hpo.final.retrain import fault
from hpo.ledger.records import TrialRecord
from hpo.paths import StudyPaths
from hpo.spec import RunOptions
from hpo.tune.trials import StudyRun
from tests.makers import epoch, moved_trial
from trainables.config import TrainedModel
from trainables.inference.description import describe
from trainables.networks.heads import new_head

CHOSEN = TrialRecord(4, "COMPLETE", {}, (epoch(1, 0.7), epoch(2, 0.9), epoch(3, 0.8)), None, None, None, None)


def model(accuracy: float, *, is_finite: bool = True) -> TrainedModel:
    return TrainedModel(model=b"", accuracy=accuracy, is_finite=is_finite)


def test_a_model_that_learned_what_its_trial_did_is_worth_a_look() -> None:
    assert fault(model(0.99), CHOSEN) is None
    assert fault(model(0.81), CHOSEN) is None


def test_a_model_that_is_far_below_its_trial_is_not() -> None:
    assert "classifies 0.5000 of the images that it learned from" in str(fault(model(0.5), CHOSEN))
    assert "0.9000" in str(fault(model(0.5), CHOSEN))


def test_a_trial_that_was_far_from_right_promises_little() -> None:
    poor = TrialRecord(4, "COMPLETE", {}, (epoch(1, 0.32),), None, None, None, None)

    assert fault(model(0.15), poor) is None


def test_a_model_whose_loss_is_not_finite_is_not() -> None:
    assert fault(model(0.99, is_finite=False), CHOSEN) == "the retrain's loss is not finite"


def test_a_picture_that_fails_costs_no_model(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def savefig(*_arguments: object, **_keywords: object) -> None:
        raise MemoryError("Unable to allocate 30.0 GiB")

    monkeypatch.setattr(Figure, "savefig", savefig)
    ledger = moved_trial(tmp_path)
    run = StudyRun(ledger, RunOptions(trials=1), StudyPaths(tmp_path, "study"), cast(Any, None), cast(Any, None))
    classes = ("cat", "caf\udce9")
    labels, predicted = np.array([0, 1, 1]), np.array([0, 1, 0])
    rows = (("a.png", 0, 0), ("b.png", 1, 1), ("c\n.png", 1, 0))
    spec = ledger.spec
    described = describe(new_head("linear", 4, 2, None), spec.model, spec.data.exif, classes)
    look = files.Look(measure(labels, predicted, classes), classes, rows, described)

    files.conclude(run, ledger.records()[0], "train", [files.TestedModel(b"weights", 1.0, look)])

    final = tmp_path / "study" / "final"
    assert {path.name for path in final.iterdir()} == {
        "model.safetensors",
        "metrics.json",
        "classification_report.txt",
        "test_predictions.csv",
        "config.toml",
        "preprocessing.json",
        "README.md",
    }
    assert (final / "model.safetensors").read_bytes() == b"weights"
    assert len(pd.read_csv(final / "test_predictions.csv")) == 3
    assert tomllib.loads((final / "config.toml").read_text(encoding="utf-8"))["classes"] == ["cat", "caf?"]
    assert ledger.final is not None
    assert ledger.final["test_images"] == 3
    assert "confusion_matrix.png was not drawn (Unable to allocate 30.0 GiB)" in caplog.text
