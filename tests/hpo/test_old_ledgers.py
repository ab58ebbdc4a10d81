"""A ledger that an earlier version left opens and continues."""

import shutil
from pathlib import Path

import pytest

from hpo.ledger import studies as ledgers
from tests.makers import epoch, report

ASSETS = Path(__file__).parents[1] / "assets" / "ledgers"


@pytest.fixture
def url(tmp_path: Path) -> str:
    """The address of a copy of the ledger of 0.1.0."""
    shutil.copy(ASSETS / "0.1.0" / "studies" / "optuna.db", tmp_path)
    return f"sqlite:///{tmp_path / 'optuna.db'}"


def test_curves_that_say_not_where_their_epochs_ran_are_read(url: str) -> None:
    records = ledgers.open_study(url, "finished").records()

    assert len(records) == 6
    assert [result.epoch for result in records[0].curve] == list(range(1, 13))
    assert records[0].curve[0].val_accuracy == 0.7019498607242339
    assert records[0].places == (None,) * 12
    assert {record.hosts for record in records} == {("127.0.0.1",)}


def test_an_interrupted_trial_goes_on_and_says_where_from_then_on(url: str) -> None:
    ledger = ledgers.open_study(url, "interrupted")
    ledger.own()
    (left,) = ledger.adopt_interrupted()
    trial = ledger.ask()

    report(ledger, trial.number, epoch(trial.reported + 1))

    record = ledger.records()[left.number]
    assert record.curve[:-1] == left.curve
    assert record.places == (*(None for _ in left.curve), ("10.0.0.1", "cpu"))
