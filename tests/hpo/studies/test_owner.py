"""A study is locked, then opened, then stamped, by whichever command writes it."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import optuna
import pytest

from hpo.addresses import database_url
from hpo.errors import HpoError, UsageError
from hpo.interrupts import Interruption
from hpo.ledger import lock
from hpo.ledger import studies as ledgers
from hpo.ledger.ledger import Ledger
from hpo.ledger.lock import only_writer
from hpo.paths import StudyPaths
from hpo.spec import NewStudy, RunOptions
from hpo.studies import lifecycle
from hpo.studies.delete import delete
from hpo.studies.owner import claim, owned
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
    # These studies have no images, and need no Ray.
    monkeypatch.setattr(lifecycle, "verify", lambda *_: None)
    monkeypatch.setattr(lifecycle, "ray_ahead", lambda *_: nullcontext())
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


def test_no_folder_is_made_or_removed_for_a_study_that_is_not_there(
    paths: StudyPaths, url: str, earlier: Ledger
) -> None:
    before = sorted(paths.studies.parent.rglob("*"))

    with pytest.raises(UsageError, match="there is no study"), owned(StudyPaths(paths.studies, "nobodys"), url):
        pass

    assert sorted(paths.studies.parent.rglob("*")) == before


def test_an_earlier_writer_of_a_study_that_was_deleted_says_so(paths: StudyPaths, url: str, earlier: Ledger) -> None:
    trial = earlier.ask().number

    delete(url, paths)

    assert ledgers.list_studies(url) == []
    assert not paths.folder.exists()
    with pytest.raises(HpoError, match="study study was deleted or renamed while it ran here"):
        report(earlier, trial, epoch(1))


def test_a_folder_that_a_deleted_study_left_is_no_new_studys(
    paths: StudyPaths, url: str, earlier: Ledger, begun: list[Ledger]
) -> None:
    paths.final.mkdir(parents=True)
    (paths.final / "model.safetensors").touch()
    paths.best.touch()
    (paths.folder / "notes.txt").touch()
    ledgers.delete(url, "study")

    with pytest.raises(HpoError, match="was deleted or renamed while it ran here"):
        earlier.records()
    with pytest.raises(HpoError, match="far enough"):
        lifecycle.start([(new_study(), paths)], RunOptions(trials=1), url)

    assert not paths.final.exists()
    assert not paths.best.exists()
    assert (paths.folder / "earlier-study" / "final" / "model.safetensors").exists()
    assert (paths.folder / "notes.txt").exists()


def test_a_study_that_took_anothers_name_deletes_nothing_of_that(paths: StudyPaths, url: str, earlier: Ledger) -> None:
    paths.final.mkdir(parents=True)
    claim(paths, "another", is_new=False)

    delete(url, paths)

    assert paths.final.exists()
    assert ledgers.list_studies(url) == []


def test_deleting_leaves_what_is_the_users(
    paths: StudyPaths, url: str, earlier: Ledger, caplog: pytest.LogCaptureFixture
) -> None:
    elsewhere = paths.studies.parent / "large disk"
    (elsewhere / "final").mkdir(parents=True)
    (elsewhere / "notes.txt").touch()
    paths.folder.symlink_to(elsewhere)

    delete(url, paths)

    assert [path.name for path in elsewhere.iterdir()] == ["notes.txt"]
    assert "notes.txt" in caplog.text


def test_a_study_that_was_renamed_to_a_path_touches_no_file(paths: StudyPaths, url: str, earlier: Ledger) -> None:
    outside = paths.studies.parent / "photos"
    outside.mkdir()

    for name in (str(outside), "../photos"):
        with pytest.raises(UsageError, match="anything printable but slashes"):
            delete(url, StudyPaths(paths.studies, name))

    assert outside.exists()


def new_study() -> NewStudy:
    return NewStudy(study_spec(), {"train": 1}, "image,split\n")


@pytest.mark.parametrize(
    "error", [HpoError("no"), UsageError("no"), OSError(28, "No space"), RuntimeError, KeyboardInterrupt]
)
def test_what_fails_before_its_first_trial_leaves_nothing(
    error: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise error

    monkeypatch.setattr(lifecycle, "_go", fail)
    studies = tmp_path / "deep" / "studies"
    asked = [(new_study(), StudyPaths(studies, name)) for name in ("a", "b")]

    with pytest.raises(type(error) if isinstance(error, Exception) else error):
        lifecycle.start(asked, RunOptions(trials=1), database_url(studies, None))

    assert list(tmp_path.iterdir()) == []


def test_a_second_study_that_is_locked_leaves_nothing_of_the_first_and_all_of_its_own(
    paths: StudyPaths, url: str, earlier: Ledger
) -> None:
    paths.folder.mkdir()
    asked = [(new_study(), StudyPaths(paths.studies, "first")), (new_study(), paths)]

    with only_writer(paths.lock, "study", url):
        with pytest.raises(HpoError, match="is being run by process"):
            lifecycle.start(asked, RunOptions(trials=1), url)

        assert sorted(path.name for path in paths.studies.iterdir()) == ["optuna.db", "study"]
    assert [ledger.name for ledger in ledgers.list_studies(url)] == ["study"]


def test_a_study_that_existed_stays_when_its_next_run_fails(paths: StudyPaths, url: str, begun: list[Ledger]) -> None:
    ledgers.create(url, "study", study_spec(), RunOptions(trials=1), {"train": 1})

    with pytest.raises(HpoError, match="far enough"):
        lifecycle.start([(new_study(), paths)], RunOptions(trials=1), url)

    assert [ledger.name for ledger in ledgers.list_studies(url)] == ["study"]


def test_a_failure_while_another_study_has_trials_keeps_all_of_them(
    paths: StudyPaths, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(opened: Any, *_: object) -> None:
        opened[0].ledger.ask()
        raise HpoError("no")

    monkeypatch.setattr(lifecycle, "_go", fail)
    asked = [(new_study(), StudyPaths(paths.studies, name)) for name in ("a", "b")]

    with pytest.raises(HpoError, match="no"):
        lifecycle.start(asked, RunOptions(trials=1), url)

    assert [ledger.name for ledger in ledgers.list_studies(url)] == ["a", "b"]


@pytest.mark.parametrize("foreign", [{"direction": "minimize"}, {"directions": ["maximize", "minimize"]}])
def test_another_programs_empty_study_is_not_taken_over(foreign: dict[str, Any], paths: StudyPaths, url: str) -> None:
    optuna.create_study(study_name="study", storage=url, **foreign)

    with pytest.raises(UsageError, match="was not made by hpo"):
        lifecycle.start([(new_study(), paths)], RunOptions(trials=1), url)

    assert optuna.load_study(study_name="study", storage=url).user_attrs == {}
    assert not paths.folder.exists()


def test_a_study_whose_every_trial_failed_is_a_failure(
    paths: StudyPaths, url: str, earlier: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    earlier.run_options = RunOptions(trials=1, retrain=False)

    ended = lifecycle.resume([paths], url, trials=None, address=None)

    assert ended.summaries == []
    assert "1 trials failed, the last with ValueError: no" in str(ended.failures[0])


def test_time_that_is_up_is_said_with_the_command_that_continues(
    paths: StudyPaths, url: str, earlier: Ledger, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    @contextmanager
    def running(*_: Any) -> Iterator[Any]:
        yield [], None, Interruption("hpo resume study")

    earlier.ask()
    monkeypatch.setattr(lifecycle, "verify", lambda *_: None)
    monkeypatch.setattr(lifecycle, "ray_ahead", lambda *_: nullcontext())
    monkeypatch.setattr(lifecycle, "_running", running)
    monkeypatch.setattr(lifecycle, "run_trials", lambda *_: {})

    lifecycle.resume([paths], url, trials=None, address=None, timeout_s=5.0)

    assert "time is up (--timeout, 5 s); continue with: hpo resume study" in caplog.text
    assert ledgers.open_study(url, "study").run_options.timeout_s == 5.0
