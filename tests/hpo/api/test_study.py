"""A study as Python sees it: attributes that are current, tables, and names that are imported when they are used."""

import subprocess
import sys
from pathlib import Path

import optuna
import pytest

import hpo
from hpo.ledger import studies as ledgers
from hpo.spec import RunOptions
from tests.makers import epoch, report, study_spec


@pytest.fixture
def location(tmp_path: Path) -> hpo.Location:
    """A folder with two studies, one of which has a trial of each state."""
    location = hpo.Location(studies_dir=tmp_path)
    for name in ("pets [clean]", "begun"):
        ledgers.create(location.url, name, study_spec(), RunOptions(trials=4), {"train": 1})
    ledger = ledgers.open_study(location.url, "begun")
    for state in ("COMPLETE", "PRUNED", "FAIL", "RUNNING"):
        trial = ledger.ask().number
        for number, accuracy in enumerate((0.5, 0.8 - trial / 10), start=1):
            report(ledger, trial, epoch(number, accuracy))
        if state != "RUNNING":
            ledger.finish(trial, state)  # type: ignore[arg-type]
    return location


def test_a_study_is_found_and_current(location: hpo.Location) -> None:
    study = hpo.open_study("begun", location)
    assert study.states == {"COMPLETE": 1, "PRUNED": 1, "FAIL": 1, "RUNNING": 1}

    writer = ledgers.open_study(location.url, "begun")
    writer.adopt_interrupted()
    report(writer, writer.ask().number, epoch(3, 0.9))
    writer.finish(3, "COMPLETE")

    assert study.states == {"COMPLETE": 2, "PRUNED": 1, "FAIL": 1, "RUNNING": 0}
    assert study.best is not None
    assert (study.best.number, study.best.best and study.best.best.epoch) == (3, 3)
    assert study.summary["best"]["val_accuracy"] == 0.9
    assert [one.name for one in hpo.list_studies(location)] == ["begun", "pets [clean]"]
    assert study.folder == location.studies / "begun"


def test_trials_and_curves_are_tables(location: hpo.Location) -> None:
    study = hpo.open_study("begun", location)

    trials, curves = study.trials, study.curves

    assert list(trials["state"]) == ["COMPLETE", "PRUNED", "FAIL", "RUNNING"]
    assert {"learning_rate", "batch_size", "epochs", "freeze_mode"} <= set(trials.columns)
    assert list(trials["best_val_accuracy"]) == pytest.approx([0.8, 0.7, 0.6, 0.5])
    assert len(curves) == 8
    assert set(curves["host"]) == {"10.0.0.1"}
    assert list(curves.groupby("trial")["val_accuracy"].max()) == pytest.approx([0.8, 0.7, 0.6, 0.5])


def test_a_study_is_reported_and_compared(location: hpo.Location) -> None:
    begun, empty = hpo.open_study("begun", location), hpo.open_study("pets [clean]", location)

    page, both = empty.report(), hpo.compare([begun, empty])

    assert page == empty.folder / "report" / "report.html"
    assert both == location.studies / "reports" / "begun-pets [clean]" / "report.html"
    assert "Study pets [clean]" in page.read_text(encoding="utf-8")


def test_a_study_without_trials_has_empty_tables(location: hpo.Location) -> None:
    study = hpo.open_study("pets [clean]", location)

    assert (study.best, study.final, len(study.trials), len(study.curves)) == (None, None, 0, 0)
    assert list(study.curves.columns[:3]) == ["trial", "epoch", "val_accuracy"]
    with pytest.raises(hpo.HpoError, match="no finished trial"):
        study.export()


def test_what_is_not_there_is_named(location: hpo.Location) -> None:
    with pytest.raises(hpo.UsageError, match=r"no study nowhere; the studies here are: begun, pets \[clean\]"):
        hpo.open_study("nowhere", location)
    study = hpo.open_study("begun", location)

    optuna.delete_study(study_name="begun", storage=str(location.url))

    with pytest.raises(hpo.HpoError, match="begun"):
        _ = study.trials


def test_a_deleted_study_is_gone(location: hpo.Location) -> None:
    hpo.open_study("begun", location).delete()

    assert [one.name for one in hpo.list_studies(location)] == ["pets [clean]"]


def test_every_public_name_is_documented_and_found() -> None:
    for name in hpo.__all__:
        assert getattr(hpo, name).__doc__, name
    assert set(hpo.__all__) <= set(dir(hpo))
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = hpo.nothing


def test_every_public_attribute_of_a_study_is_documented() -> None:
    public = {name: member for name, member in vars(hpo.Study).items() if not name.startswith("_")}

    assert {"best", "trials", "curves", "final", "report", "resume", "retrain"} <= public.keys()
    assert all(member.__doc__ for member in public.values())


def test_the_package_imports_nothing_heavy() -> None:
    script = (
        "import sys, hpo; hpo.DataOptions(), hpo.run, hpo.open_study\n"
        "loaded = {'torch', 'ray', 'optuna', 'pandas', 'sqlalchemy', 'typer'} & sys.modules.keys()\n"
        "assert not loaded, loaded"
    )

    subprocess.run([sys.executable, "-c", script], check=True)
