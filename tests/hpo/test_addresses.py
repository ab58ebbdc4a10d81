"""Addresses of databases, as people give them."""

from pathlib import Path

import pytest
from sqlalchemy import make_url

from hpo.addresses import database_url, shown, sqlite_file
from hpo.errors import UsageError
from hpo.ledger import studies as ledgers
from hpo.ledger.lock import only_writer
from hpo.spec import RunOptions
from hpo.studies import doctor
from tests.makers import study_spec


@pytest.mark.parametrize("name", ["plain", "what?", "a?mode=ro", "#1 100%", "50%25", "{x}", "file:x", "ä ö"])
def test_any_folder_can_hold_the_studies(name: str, tmp_path: Path) -> None:
    studies = tmp_path / name / "studies"
    studies.mkdir(parents=True)
    url = database_url(studies, None)
    assert "will be created" in doctor.database(url, studies).words

    ledgers.create(url, "study", study_spec(), RunOptions(trials=1), {})

    assert [path.name for path in studies.iterdir()] == ["optuna.db"]
    assert sqlite_file(url) == studies / "optuna.db"
    assert [ledger.name for ledger in ledgers.list_studies(url)] == ["study"]
    assert doctor.database(url, studies).words.endswith("opens, holds studies")


@pytest.mark.parametrize("form", ["sqlite:///{}?timeout=5", "sqlite+pysqlite:///{}", "sqlite:///file:{}?uri=true"])
def test_every_command_finds_the_same_file(form: str, tmp_path: Path) -> None:
    url = database_url(tmp_path, form.format(tmp_path / "x.db"))
    assert ledgers.list_studies(url) == []
    assert ledgers.recorded_spec(url, "study") is None

    ledgers.create(url, "study", study_spec(), RunOptions(trials=1), {})

    assert (tmp_path / "x.db").exists()
    assert ledgers.open_study(url, "study").name == "study"
    with only_writer(tmp_path / ".lock", "study", url):
        pass


@pytest.mark.parametrize(
    ("storage", "said"),
    [
        ("studies.db", "for this file, --storage sqlite:///studies.db"),
        ("/data/studies.sqlite3", "--storage sqlite:////data/studies.sqlite3"),
        ("studies", "it looks like sqlite:///FILE"),
        ("sqlite://studies.db", "names no file; sqlite:///FILE (three slashes)"),
        ("sqlite://", "names no file"),
        ("sqlite:///:memory:", "names no file"),
        ("sqlite:///nowhere/x.db", "there is no folder"),
        ("postgres://me:secret@host/db", "PostgreSQL's begins with postgresql://"),
        ("postgresql://me:secret@host:port/db", "no address of a database"),
        ("mysql://me:secret@host/db", "mysql's driver is missing"),
        ("postgresql+nosuch://me:secret@host/db", "no address of a database"),
        ("journal:///x.log", "no address of a database"),
        ("me:secret@host/db", "no address of a database"),
    ],
)
def test_what_is_no_address_is_refused_with_what_is_wanted(storage: str, said: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError) as caught:
        database_url(tmp_path, storage)

    assert said in str(caught.value)
    assert "secret" not in str(caught.value)


def test_no_password_is_shown() -> None:
    assert shown("postgresql+psycopg://me:sec%40ret@host/db") == "postgresql+psycopg://me:***@host/db"
    assert shown(make_url("postgresql://host/db?user=me&password=secret")) == (
        "postgresql://host/db?password=***&user=me"
    )
