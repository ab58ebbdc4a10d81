"""The database below the ledger: SQLite and PostgreSQL, unreachable, damaged, read-only, and shared by two writers."""

import multiprocessing
import re
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from hpo.errors import HpoError
from hpo.ledger import studies as ledgers
from hpo.ledger.ledger import Ledger
from hpo.ledger.lock import holder, only_writer
from hpo.spec import RunOptions
from tests.makers import epoch, report, study_spec
from tests.postgres import MISSING, postgres_server, programs

needs_postgres = pytest.mark.skipif(programs() is None, reason=MISSING)


def opened(url: str, name: str) -> Ledger:
    return ledgers.create(url, name, study_spec(), RunOptions(trials=10), {"train": 1})


def hold(path: Path, url: str, held: Any, release: Any) -> None:
    with only_writer(path, "study", url):
        held.set()
        release.wait(60)


@pytest.mark.parametrize("shared", ["folder", "database"])
def test_a_second_writer_is_refused_and_the_first_is_named(shared: str, tmp_path: Path, request: Any) -> None:
    url = request.getfixturevalue("postgres").url if shared == "database" else f"sqlite:///{tmp_path / 'optuna.db'}"
    theirs = tmp_path / ("theirs.lock" if shared == "database" else ".lock")
    context = multiprocessing.get_context("spawn")
    held, release = context.Event(), context.Event()
    process = context.Process(target=hold, args=(theirs, url, held, release))
    process.start()
    assert held.wait(60)

    with (
        pytest.raises(HpoError, match=f"is being run by process {process.pid} on "),
        only_writer(tmp_path / ".lock", "study", url),
    ):
        pass
    with only_writer(tmp_path / "other.lock", "another", url):
        pass
    assert re.match(f"process {process.pid} on ", holder(theirs, "study", url) or "")
    assert holder(tmp_path / "other.lock", "another", url) is None
    process.kill()
    process.join()

    def takes_over() -> bool:
        try:
            with only_writer(tmp_path / ".lock", "study", url):
                return (tmp_path / ".lock.json").exists()
        except HpoError:
            return False

    # The server notices a dead connection a moment later.
    deadline = time.monotonic() + 30
    while not takes_over():
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert holder(theirs, "study", url) is None


@needs_postgres
def test_an_unreachable_database_is_waited_for(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with (
        postgres_server(tmp_path) as server,
        only_writer(tmp_path / ".lock", "study", server.url) as hold,
    ):
        ledger = opened(server.url, "study")
        ledger.own(hold)
        trial = ledger.ask().number
        for step in (
            lambda: report(ledger, trial, epoch(1)),
            lambda: ledger.finish(trial, "PRUNED"),
            ledger.ask,
        ):
            server.stop()
            back = threading.Timer(3.0, server.start)
            back.start()
            step()
            back.join()

        records = opened(server.url, "study").records()

    assert [(record.state, len(record.curve)) for record in records] == [("PRUNED", 1), ("RUNNING", 0)]
    assert "the database is back" in caplog.text


@pytest.mark.parametrize("ended", [False, True])
@needs_postgres
def test_a_study_that_another_process_took_while_the_database_was_unreachable_is_left_to_it(
    ended: bool, tmp_path: Path
) -> None:
    with postgres_server(tmp_path) as server, only_writer(tmp_path / "a.lock", "study", server.url) as hold:
        ledger = opened(server.url, "study")
        ledger.own(hold)
        trial = ledger.ask().number
        server.stop()
        server.start()
        with ExitStack() as others:
            others.enter_context(only_writer(tmp_path / "b.lock", "study", server.url))
            theirs = opened(server.url, "study")
            theirs.own()
            theirs.adopt_interrupted()
            report(theirs, theirs.ask().number, epoch(1, 0.25))
            if ended:
                others.close()

            with pytest.raises(HpoError, match="was taken over by process" if ended else "is being run by") as caught:
                report(ledger, trial, epoch(1, 0.75))

        (record,) = opened(server.url, "study").records()

    assert len(str(caught.value).splitlines()) == 1
    assert [result.val_accuracy for result in record.curve] == [0.25]


def test_a_read_only_database_is_reported_at_once(tmp_path: Path) -> None:
    path = tmp_path / "optuna.db"
    opened(f"sqlite:///{path}", "study").ask()
    ledger = ledgers.open_study(f"sqlite:///file:{path}?mode=ro&uri=true", "study")

    with pytest.raises(HpoError, match=r"the database cannot be used \(.*readonly"):
        ledger.ask()


@pytest.mark.parametrize("call", [opened, ledgers.open_study])
def test_a_damaged_database_is_reported_with_its_address(call: Callable[[str, str], Ledger], tmp_path: Path) -> None:
    path = tmp_path / "optuna.db"
    path.write_bytes(b"This is no database." * 500)

    with pytest.raises(HpoError, match=rf"--storage sqlite:///{path}: the database cannot be opened .*not a database"):
        call(f"sqlite:///{path}", "study")


def test_a_database_that_lost_a_page_is_reported_too(tmp_path: Path) -> None:
    path = tmp_path / "optuna.db"
    opened(f"sqlite:///{path}", "study").ask()
    whole = path.read_bytes()
    path.write_bytes(whole[:8192] + bytes(len(whole) - 8192))

    with pytest.raises(HpoError, match="the database cannot be opened"):
        ledgers.open_study(f"sqlite:///{path}", "study")


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("postgresql://hpo:secret@127.0.0.1:1/none", "refused"),
        ("nothing", "parse"),
        ("oracle+none://x", "none"),
    ],
)
def test_an_address_that_leads_nowhere_is_reported_without_its_password(url: str, said: str, tmp_path: Path) -> None:
    with pytest.raises(HpoError) as caught:
        opened(url, "study")

    assert said in str(caught.value)
    assert "secret" not in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1
