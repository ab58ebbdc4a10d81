"""One writer at a time: locks that the operating system and PostgreSQL free when their holder dies, however it dies."""

import json
import os
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout
from sqlalchemy import URL, Connection, NullPool, create_engine, make_url, text
from sqlalchemy.exc import SQLAlchemyError

from hpo.errors import HpoError
from hpo.ledger.fence import runs_here, this_process
from hpo.ledger.storage import opening

_TAKE = "SELECT pg_try_advisory_lock(hashtextextended(:study, 0))"
_HOLDER = """
SELECT application_name FROM pg_stat_activity JOIN pg_locks USING (pid)
WHERE locktype = 'advisory' AND granted
  AND (classid::bigint << 32 | objid::bigint) = hashtextextended(:study, 0)
"""


@contextmanager
def only_writer(path: Path, study: str, url: str | URL) -> Iterator[Callable[[], None]]:
    """Hold the study's locks: a file's, and the database's where that is PostgreSQL, which other folders may share.

    Yields:
        What makes sure that the database's lock is still held, and takes it again if its connection broke; it raises
        HpoError if another process was faster. To be called before anything is written. Another process may have held
        it in between: that is for `Fence` to find.

    Raises:
        HpoError: Another process holds one of them; the message names it.
    """
    with _file_lock(path, study):
        if make_url(url).get_backend_name() == "postgresql":
            with _postgres_lock(url, study) as hold:
                yield hold
        else:
            yield lambda: None


def holder(path: Path, study: str, url: str | URL) -> str | None:
    """Return the process that holds a study's locks, ``process PID on HOST``, without taking them; None: no process.

    A file's lock whose holder was killed on another machine still counts as held: that cannot be seen from here.
    """
    if make_url(url).get_backend_name() == "postgresql":
        with opening(url):
            engine = create_engine(url, poolclass=NullPool)
            with engine.connect() as connection:
                found: str | None = connection.execute(text(_HOLDER), {"study": f"hpo {study}"}).scalar()
        return found
    note = _note(path)
    if not note.exists():
        return None
    process = _name(note)
    return None if process.endswith(f" on {socket.gethostname()}") and not runs_here(process) else process


@contextmanager
def _file_lock(path: Path, study: str) -> Iterator[None]:
    note = _note(path)
    lock = FileLock(path)
    try:
        lock.acquire(timeout=0)
    except Timeout as error:
        raise _refusal(study, _name(note)) from error
    try:
        note.write_text(json.dumps({"host": socket.gethostname(), "pid": os.getpid()}), encoding="utf-8")
        yield
    finally:
        note.unlink(missing_ok=True)
        lock.release()


@contextmanager
def _postgres_lock(url: str | URL, study: str) -> Iterator[Callable[[], None]]:
    with opening(url):
        engine = create_engine(
            url, poolclass=NullPool, isolation_level="AUTOCOMMIT", connect_args={"application_name": this_process()}
        )
        connection = _take(engine.connect(), study)

    def hold() -> None:
        nonlocal connection
        try:
            connection.execute(text("SELECT 1"))
        except SQLAlchemyError:
            connection.close()
            connection = _take(engine.connect(), study)

    try:
        yield hold
    finally:
        connection.close()


def _take(connection: Connection, study: str) -> Connection:
    key = {"study": f"hpo {study}"}
    if not connection.execute(text(_TAKE), key).scalar():
        holder = connection.execute(text(_HOLDER), key).scalar()
        connection.close()
        raise _refusal(study, holder or "another process")
    return connection


def _refusal(study: str, holder: str) -> HpoError:
    return HpoError(f"study {study} is being run by {holder}; wait for it or stop it, then try again.")


def _note(path: Path) -> Path:
    """What names a lock's holder."""
    return path.with_name(f"{path.name}.json")


def _name(note: Path) -> str:
    try:
        held = json.loads(note.read_text(encoding="utf-8"))
        return f"process {held['pid']} on {held['host']}"
    except (OSError, ValueError, KeyError):
        return "another process"
