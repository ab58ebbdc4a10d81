"""The fence: a study is the process's that stamped it last, and each transaction that writes looks at the stamp."""

import json
import os
import re
import secrets
import socket
from typing import Any

import psutil
from optuna.storages import BaseStorage
from sqlalchemy import Connection, event, select

from hpo.errors import HpoError
from hpo.ledger.optuna_private import STUDY_ATTRIBUTES, engine_of

OWNER = "owner"
"""The study's attribute that holds the stamp."""


class Fence:
    """Lets one process write a study: the one that stamped it last.

    A lock keeps a second process out while it is held, but PostgreSQL frees one whose connection broke, and its holder
    may find out late. Therefore each statement that writes is followed, in its own transaction, by a look at the
    stamp, and the transaction is undone where that is no longer ours. SQLite has locked the database by then, and
    PostgreSQL keeps the stamp locked until the transaction ends, so no other stamp comes between look and commit:
    what a process writes after another has stamped the study is never there. What it wrote before, the other reads,
    since it reads after it stamped.
    """

    def __init__(self, storage: BaseStorage, study_id: int, study: str) -> None:
        self._storage = storage
        self._study_id = study_id
        self._study = study
        self._mine: dict[str, str] | None = None
        self._query = select(STUDY_ATTRIBUTES.c.value_json).where(
            STUDY_ATTRIBUTES.c.study_id == study_id, STUDY_ATTRIBUTES.c.key == OWNER
        )
        # SQLite has no such clause, and SQLAlchemy leaves it out there.
        self._query = self._query.with_for_update(read=True)

    def stamp(self) -> None:
        """Make the study this process's; whoever stamped it before writes nothing more."""
        engine = engine_of(self._storage)
        if self._mine is None:
            event.listen(engine, "after_cursor_execute", self._after_statement)
        self._mine = None
        mine = {"token": secrets.token_hex(16), "process": this_process()}
        self._storage.set_study_user_attr(self._study_id, OWNER, mine)
        self._mine = mine

    def look(self) -> None:
        """Make sure that the study is still this process's.

        Raises:
            HpoError: Another process has stamped or deleted it since.
        """
        with engine_of(self._storage).connect() as connection:
            self._look(connection)

    def _after_statement(self, connection: Connection, *execution: Any) -> None:
        context = execution[-2]
        if context.isinsert or context.isupdate or context.isdelete:
            self._look(connection)

    def _look(self, connection: Connection) -> None:
        if self._mine is None:
            return
        stored = connection.execute(self._query).scalar()
        found = None if stored is None else json.loads(stored)
        if found is None:
            raise HpoError(
                f"study {self._study} was deleted or renamed while it ran here: nothing more was written; `hpo status`"
                " lists the studies that are there."
            )
        if found != self._mine:
            raise HpoError(
                f"study {self._study} was taken over by {found['process']}, so nothing more was written here;"
                f" once that has ended, `hpo resume {self._study}` continues."
            )


def this_process() -> str:
    """Return the name of this process in other processes' messages."""
    return f"process {os.getpid()} on {socket.gethostname()}"


def runs_here(process: str) -> bool:
    """Return whether a process that `this_process` named runs on this machine."""
    match = re.fullmatch(r"process (\d+) on (.*)", process)
    return match is not None and match[2] == socket.gethostname() and psutil.pid_exists(int(match[1]))
