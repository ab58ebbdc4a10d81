"""One writer at a time: the lock beside a study says which host and process holds it."""

import json
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from hpo.errors import HpoError


@contextmanager
def only_writer(path: Path, study: str) -> Iterator[None]:
    """Hold the study's lock; the operating system frees it when this process ends, however it ends.

    Raises:
        HpoError: Another process holds it; the message names it.
    """
    holder = path.with_name(f"{path.name}.json")
    lock = FileLock(path)
    try:
        lock.acquire(timeout=0)
    except Timeout as error:
        raise HpoError(
            f"study {study} is being run by {_name(holder)}; wait for it or stop it, then try again."
        ) from error
    try:
        holder.write_text(json.dumps({"host": socket.gethostname(), "pid": os.getpid()}), encoding="utf-8")
        yield
    finally:
        holder.unlink(missing_ok=True)
        lock.release()


def _name(holder: Path) -> str:
    try:
        held = json.loads(holder.read_text(encoding="utf-8"))
        return f"process {held['pid']} on {held['host']}"
    except (OSError, ValueError, KeyError):
        return "another process"
