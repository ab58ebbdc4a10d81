"""A study is locked, then opened, then stamped, by whichever command writes it."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from hpo.errors import HpoError, UsageError
from hpo.ledger import lock
from hpo.ledger import studies as ledgers
from hpo.ledger.ledger import Ledger
from hpo.ledger.lock import only_writer
from hpo.paths import StudyPaths
from hpo.spec import NewStudy, RunOptions
from hpo.studies import lifecycle
from hpo.studies.delete import delete
from hpo.studies.owner import owned
from tests.makers import epoch, report, study_spec


@pytest.fixture
def paths(tmp_path: Path) -> StudyPaths:
    return StudyPaths(tmp_path / "studies", "study")


@pytest.fixture
def url(paths: StudyPaths) -> str:
    paths.studies.mkdir()
    return f"sqlite:///{paths.studies / 'optuna.db'}"


@pytest.fixture
def earlier(url: str) -> Ledger:
    """What another process has open, which has lost its lock without having noticed."""
    ledger = ledgers.create(url, "study", study_spec(), RunOptions(trials=10, retrain=False), {"train": 1})
    ledger.own()
    ledger.finish(ledger.ask().number, "FAIL", error="ValueError: no")
    return ledger


def resume(paths: StudyPaths, url: str) -> None:
    lifecycle.resume([paths], url, trials=None, address=None)


def retrain(paths: StudyPaths, url: str) -> None:
    lifecycle.retrain_again(paths, url, seeds=1, top=1, on="train+val", address=None)


@pytest.fixture
def begun(monkeypatch: pytest.MonkeyPatch) -> list[Ledger]:
    """The ledgers of the studies that commands would have begun to run."""
    ledgers: list[Ledger] = []

    def go(opened: Any, *command: Any) -> Any:
        ledgers.extend(one.ledger for one in opened)
        raise HpoError("far enough")

    monkeypatch.setattr(lifecycle, "_go", go)
    monkeypatch.setattr(lifecycle, "_running", go)
    # These studies have no images.
    monkeypatch.setattr(lifecycle, "verify", lambda *_: None)
    return ledgers


@pytest.mark.parametrize("command", [resume, retrain])
def test_what_was_written_until_the_lock_was_free_is_seen(
    command: Callable[[StudyPaths, str], None],
    paths: StudyPaths,
    url: str,
    earlier: Ledger,
    begun: list[Ledger],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    file_lock = lock._file_lock

    @contextmanager
    def taken_late(path: Path, study: str) -> Iterator[None]:
        earlier.finish(earlier.ask().number, "FAIL", error="ValueError: again")
        with file_lock(path, study):
            yield

    monkeypatch.setattr(lock, "_file_lock", taken_late)

    with pytest.raises(HpoError, match="far enough"):
        command(paths, url)

    (ledger,) = begun
    assert ledger.n_trials == 2


@pytest.mark.parametrize("command", [resume, retrain])
def test_a_command_that_begins_ends_the_writing_of_an_earlier_one(
    command: Callable[[StudyPaths, str], None], paths: StudyPaths, url: str, earlier: Ledger, begun: list[Ledger]
) -> None:
    trial = earlier.ask().number

    with pytest.raises(HpoError, match="far enough"):
        command(paths, url)

    with pytest.raises(HpoError, match="study study was taken over by process"):
        report(earlier, trial, epoch(1))


def test_a_new_run_ends_the_writing_of_an_earlier_one_too(
    paths: StudyPaths, url: str, earlier: Ledger, begun: list[Ledger]
) -> None:
    new = NewStudy(study_spec(), {"train": 1}, "image,split\n")

    with pytest.raises(HpoError, match="far enough"):
        lifecycle.start([(new, paths)], earlier.run_options, url)

    with pytest.raises(HpoError, match="study study was taken over by process"):
        earlier.ask()


@pytest.mark.parametrize("command", [resume, retrain, lambda paths, url: delete(url, paths)])
def test_a_command_that_finds_the_study_locked_stamps_nothing(
    command: Callable[[StudyPaths, str], None], paths: StudyPaths, url: str, earlier: Ledger, begun: list[Ledger]
) -> None:
    paths.folder.mkdir()

    with only_writer(paths.lock, "study", url), pytest.raises(HpoError, match="is being run by process"):
        command(paths, url)

    assert earlier.ask().number == 1
    assert begun == []


@pytest.mark.parametrize("name", ["nobodys", ".."])
def test_no_folder_is_made_or_removed_for_a_study_that_is_not_there(
    name: str, paths: StudyPaths, url: str, earlier: Ledger
) -> None:
    before = sorted(paths.studies.parent.rglob("*"))

    with pytest.raises(UsageError, match="there is no study"), owned(StudyPaths(paths.studies, name), url):
        pass

    assert sorted(paths.studies.parent.rglob("*")) == before


def test_an_earlier_writer_of_a_study_that_was_deleted_says_so(paths: StudyPaths, url: str, earlier: Ledger) -> None:
    trial = earlier.ask().number

    delete(url, paths)

    assert ledgers.list_studies(url) == []
    assert not paths.folder.exists()
    with pytest.raises(HpoError, match="study study was deleted while it ran here"):
        report(earlier, trial, epoch(1))
