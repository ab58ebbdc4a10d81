"""What a retrain leaves: the ledger's record of it, and the study's ``final`` folder."""

import csv
import json
import shutil
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import tomli_w

from hpo.choices import RetrainOn
from hpo.ledger.ledger import Ledger
from hpo.ledger.records import TrialRecord, best_records
from hpo.models.card import card
from hpo.models.folder import CARD, CONFIG, PREPROCESSING, WEIGHTS
from hpo.paths import StudyPaths
from hpo.tune.trials import StudyRun

if TYPE_CHECKING:
    from hpo.final.metrics import TestMetrics
    from trainables.inference.description import Description


@dataclass(frozen=True)
class Look:
    """A look at held-out test images."""

    test: "TestMetrics"
    classes: tuple[str, ...]
    predictions: tuple[tuple[str, int, int], ...]
    """(image, true class, predicted class) of each test image."""
    described: "Description"
    """The network that looked."""


@dataclass(frozen=True)
class TestedModel:
    """A final model and its scores."""

    model: bytes
    """A safetensors file."""
    accuracy: float
    """Accuracy on the images that it learned from."""
    look: Look


def conclude(run: StudyRun, chosen: TrialRecord, on: RetrainOn, models: Sequence[TestedModel]) -> None:
    """Write a study's final folder, of the first of `models`, and its ledger's record of all of them."""
    result = _result(run.ledger, chosen, on, models, run.paths)
    run.ledger.check_owner()
    _write(run.paths, run.ledger, chosen, models[0], result)
    run.ledger.final = result
    # The model is safe; pictures come after it, and matplotlib, which takes long to import, with them.
    from hpo.views.figures import draw_confusion

    look = models[0].look
    true, predicted = np.array([pair[1:] for pair in look.predictions], dtype=np.int64).reshape(-1, 2).T
    title = f"{run.ledger.name}\nheld-out test accuracy {result['test_accuracy']:.3f}"
    draw_confusion(true, predicted, look.classes, title, run.paths.final / "confusion_matrix.png")


def _result(
    ledger: Ledger, chosen: TrialRecord, on: RetrainOn, models: Sequence[TestedModel], paths: StudyPaths
) -> dict[str, Any]:
    accuracies = [one.look.test.accuracy for one in models]
    spread = statistics.stdev(accuracies) if len(accuracies) > 1 else None
    first = models[0].look.test
    return {
        "trial": chosen.number,
        "best_trial": best_records(ledger.records(), 1)[0].number,
        "on": on,
        "test_accuracy": first.accuracy,
        "test_accuracy_ci95": list(first.ci95),
        "mean_per_class_accuracy": first.mean_per_class_accuracy,
        "test_images": first.images,
        "test_looks": ledger.test_looks,
        "training_accuracy": models[0].accuracy,
        "validation": _validation(ledger, chosen, first),
        "seeds": {"test_accuracies": accuracies, "mean": statistics.fmean(accuracies), "stdev": spread},
        "model": str(paths.final / WEIGHTS),
    }


def _validation(ledger: Ledger, chosen: TrialRecord, test: "TestMetrics") -> dict[str, Any]:
    """Return what validation said of the chosen trial, by how much it was optimistic, and which trials are tied."""
    from hpo.final.significance import difference_interval, tied_with

    assert chosen.best is not None
    images, records = ledger.splits["validation"], ledger.records()
    right, seen = round(chosen.best.val_accuracy * images), round(test.accuracy * test.images)
    tied, compared = tied_with(chosen, records, ledger.splits.get("validation_labels", "")) or (None, 0)
    return {
        "accuracy": chosen.best.val_accuracy,
        "images": images,
        "above_test": chosen.best.val_accuracy - test.accuracy,
        "above_test_ci95": list(difference_interval((right, images), (seen, test.images))),
        "tied_trials": tied,
        "compared_trials": compared,
    }


def _write(
    paths: StudyPaths, ledger: Ledger, chosen: TrialRecord, tested: TestedModel, result: Mapping[str, Any]
) -> None:
    """Write the final folder beside its place and move it there whole."""
    assert chosen.best is not None
    look = tested.look
    fresh, old = paths.folder / ".final-new", paths.folder / ".final-old"
    for leftover in (fresh, old):
        shutil.rmtree(leftover, ignore_errors=True)
    fresh.mkdir(parents=True)
    try:
        (fresh / WEIGHTS).write_bytes(tested.model)
        metrics = {**result, "classification_report": look.test.report}
        (fresh / "metrics.json").write_text(json.dumps(metrics, indent=2), encoding="utf-8")
        (fresh / "classification_report.txt").write_text(look.test.report_text, encoding="utf-8", errors="replace")
        _write_predictions(fresh / "test_predictions.csv", look)
        texts = {
            CONFIG: tomli_w.dumps(_document(ledger, chosen, look.classes)),
            PREPROCESSING: look.described.preprocessing.to_json(),
            CARD: card(ledger, chosen, result, look.described, paths),
        }
        for name, text in texts.items():
            # A folder's name need not be UTF-8; a model must not be lost for it.
            (fresh / name).write_text(text, encoding="utf-8", errors="replace")
        if paths.final.exists():
            paths.final.rename(old)
        fresh.rename(paths.final)
    finally:
        for leftover in (fresh, old):
            shutil.rmtree(leftover, ignore_errors=True)


def _document(ledger: Ledger, chosen: TrialRecord, classes: tuple[str, ...]) -> dict[str, Any]:
    """Return how the model was made, without values of None, which TOML does not have."""
    assert chosen.best is not None

    def said(value: Any) -> Any:
        if isinstance(value, dict):
            return {name: said(one) for name, one in value.items() if one is not None}
        return value

    spec = ledger.spec.model_dump(mode="json")
    del spec["search"]["space"]
    return {
        "config": {**chosen.params, "best_epoch": chosen.best.epoch, "trial": chosen.number},
        "study": {"name": ledger.name, **said(spec)},
        "classes": list(classes),
    }


def _write_predictions(path: Path, look: Look) -> None:
    rows = [(name, look.classes[true], look.classes[said]) for name, true, said in look.predictions]
    # pandas refuses names that are not UTF-8.
    with path.open("w", encoding="utf-8", errors="replace", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerows([("image", "true", "predicted"), *rows])
