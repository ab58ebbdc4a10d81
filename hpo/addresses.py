"""Addresses of databases: SQLAlchemy's URLs, read once from what the user gave."""

import re
from pathlib import Path
from urllib.parse import unquote, urlsplit

from sqlalchemy import URL, make_url
from sqlalchemy.exc import ArgumentError

from hpo.errors import UsageError

_FORMS = "sqlite:///FILE, postgresql://USER:PASSWORD@HOST/DATABASE or mysql+pymysql://USER:PASSWORD@HOST/DATABASE"
_FILE_SUFFIXES = (".db", ".sqlite", ".sqlite3")
_EXTRAS = {"postgresql": "; `pip install -e '.[postgres]'` in hpo's folder brings PostgreSQL's"}


def database_url(studies: Path, storage: str | None) -> URL:
    """Return the address of the ledger's database: `storage`, else SQLite's ``optuna.db`` among the studies.

    Raises:
        UsageError: `storage` is no address, its driver is not installed, or the folder of its SQLite file is not there.
    """
    if storage is None:
        return URL.create("sqlite", database=str(studies / "optuna.db"))
    where = f"--storage {shown(storage)}"
    try:
        url = make_url(storage)
        kind = url.get_backend_name()
        url.get_dialect().import_dbapi()
    except ImportError as error:
        raise UsageError(f"{where}: {kind}'s driver is missing ({error}){_EXTRAS.get(kind, '')}.") from error
    except (ArgumentError, ValueError) as error:
        # Of a wrong port SQLAlchemy raises a plain ValueError.
        raise UsageError(f"{where}: no address of a database; {_wanted(storage)}.") from error
    if kind == "sqlite":
        _check_sqlite(url, where)
    return url


def sqlite_file(url: str | URL) -> Path | None:
    """Return the file of an SQLite database; None: it has none, or the database is of another kind."""
    url = make_url(url)
    if url.get_backend_name() != "sqlite" or url.database in (None, "", ":memory:"):
        return None
    if url.database.startswith("file:"):
        return Path(unquote(urlsplit(url.database).path))
    return Path(url.database)


def shown(storage: str | URL) -> str:
    """Return an address for people's eyes: without its password."""
    try:
        url = make_url(storage)
    except (ArgumentError, ValueError):
        return re.sub(r":[^:/@]*@", ":***@", str(storage))
    if url.get_backend_name() == "sqlite" and not url.query:
        # A path as people write it: SQLAlchemy would quote its letters, and cannot quote a name that is not UTF-8.
        return f"{url.drivername}:///{url.database or ''}"
    secrets = {key: "***" for key in url.query if "pass" in key}
    return url.update_query_dict(secrets).render_as_string().replace("%2A%2A%2A", "***")


def _wanted(storage: str) -> str:
    if storage.startswith("postgres://"):
        return "PostgreSQL's begins with postgresql://"
    if "://" not in storage and storage.endswith(_FILE_SUFFIXES):
        return f"for this file, --storage sqlite:///{storage}"
    return f"it looks like {_FORMS}"


def _check_sqlite(url: URL, where: str) -> None:
    path = sqlite_file(url)
    if path is None or url.host:
        raise UsageError(
            f"{where}: names no file; sqlite:///FILE (three slashes) is relative to this folder, sqlite:////FILE (four)"
            " is absolute."
        )
    folder = path.absolute().parent
    if not folder.is_dir():
        raise UsageError(f"{where}: there is no folder {folder}; make it, or name another place.")
