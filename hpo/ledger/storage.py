"""The database below the ledger: how it is opened, and what happens while it is unreachable."""

import functools
import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Concatenate, ParamSpec, Protocol, TypeVar

import optuna
from optuna.exceptions import StorageInternalError
from optuna.storages import BaseStorage, RDBStorage
from sqlalchemy import URL, make_url
from sqlalchemy.exc import ArgumentError, DatabaseError, DBAPIError, InterfaceError, OperationalError

from hpo.addresses import shown, sqlite_file
from hpo.errors import HpoError, UsageError

logger = logging.getLogger(__name__)

SQLITE_WAIT_S = 60
"""How long SQLite waits for a lock that another process holds before it reports an error."""
OUTAGE_WAIT_S = 600
"""How long an unreachable database is waited for before the study stops."""
_RETRY_S = 1.0
_LASTING = ("disk is full", "readonly", "read-only", "malformed", "not a database", "disk i/o", "unable to open")
"""What SQLite says when waiting does not help."""

P = ParamSpec("P")
T = TypeVar("T")
S = TypeVar("S", bound="Stored")


class Stored(Protocol):
    """Whose methods can be `patient`."""

    @property
    def hold(self) -> Callable[[], None]:
        """Called before anything is written, to make sure that nobody else does."""

    def check_owner(self) -> None:
        """Raise HpoError where another process has taken over or deleted what is stored."""


def connect(url: str | URL, *, must_exist: bool = False) -> BaseStorage:
    """Open the database at `url`.

    Raises:
        UsageError: `must_exist`, and there is no such SQLite file.
        HpoError: It cannot be opened.
    """
    if must_exist and missing_sqlite_file(url):
        raise UsageError(
            f"there are no studies at {shown(url)} yet; `hpo run` starts one, --studies-dir looks elsewhere."
        )
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    with opening(url):
        url = make_url(url)
        sqlite = url.get_backend_name() == "sqlite"
        if sqlite and "timeout" not in url.query:
            url = url.update_query_dict({"timeout": str(SQLITE_WAIT_S)})
        arguments = {} if sqlite else {"pool_pre_ping": True}
        # SQLAlchemy quotes what it renders, so a question mark in a folder's name stays one.
        address = url.render_as_string(hide_password=False)
        return optuna.storages.get_storage(RDBStorage(address, engine_kwargs=arguments))


@contextmanager
def opening(url: str | URL) -> Iterator[None]:
    """Name a database that cannot be opened, the reason, and what to do.

    Raises:
        HpoError: What is run inside could not open the database at `url`.
    """
    try:
        yield
    except (StorageInternalError, DBAPIError) as error:
        raise HpoError(f"--storage {shown(url)}: the database cannot be opened ({_reason(error)}).") from error
    except (ValueError, RuntimeError, ArgumentError) as error:
        raise HpoError(f"--storage {shown(url)}: {error}") from error


def missing_sqlite_file(url: str | URL) -> bool:
    """Return whether `url` names an SQLite file that is not there."""
    path = sqlite_file(url)
    return path is not None and not path.exists()


def patient(method: Callable[Concatenate[S, P], T]) -> Callable[Concatenate[S, P], T]:
    """Retry `method` while its database is unreachable; it must tolerate being repeated after it succeeded in part.

    Raises:
        HpoError: The database was unreachable for `OUTAGE_WAIT_S`, or is full, read-only or damaged, or another
            process has taken over what is stored.
    """

    @functools.wraps(method)
    def wrapped(self: S, /, *args: P.args, **kwargs: P.kwargs) -> T:
        since: float | None = None
        while True:
            try:
                self.hold()
                result = method(self, *args, **kwargs)
            except (StorageInternalError, DBAPIError) as error:
                reason = _reason(error)
                if not _may_pass(error):
                    raise HpoError(f"the database cannot be used ({reason}); fix that, then `hpo resume`.") from error
                if since is None:
                    since = time.monotonic()
                    logger.warning("the database is unreachable (%s); waiting for it", reason)
                if time.monotonic() - since > OUTAGE_WAIT_S:
                    raise HpoError(
                        f"the database was unreachable for {OUTAGE_WAIT_S} s ({reason}); `hpo resume` once it is back."
                    ) from error
                time.sleep(_RETRY_S)
            except KeyError:
                # Optuna raises it if a study or trial is not there; another process may have deleted it.
                self.check_owner()
                raise
            else:
                if since is not None:
                    logger.warning("the database is back after %.0f s", time.monotonic() - since)
                return result

    return wrapped


def _may_pass(error: Exception) -> bool:
    cause = error.__cause__ if isinstance(error, StorageInternalError) else error
    if not isinstance(cause, OperationalError | InterfaceError):
        # A connection that the server closed raises one of many kinds.
        return isinstance(cause, DatabaseError) and cause.connection_invalidated
    return not any(words in str(cause).lower() for words in _LASTING)


def _reason(error: Exception) -> str:
    """The database's own words, in one line."""
    cause = error.__cause__ or error
    text = str(getattr(cause, "orig", None) or cause).strip()
    return text.splitlines()[0] if text else type(cause).__name__
