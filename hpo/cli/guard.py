"""The one place where whatever a command raises becomes one or two lines on stderr and an exit code.

What other packages say on the way, and the traceback of what nobody foresaw, goes to a file that the last line names.
"""

import errno
import logging
import os
import sys
import tempfile
import threading
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import typer

from hpo.errors import HpoError
from hpo.interrupts import stoppable

logger = logging.getLogger("hpo")

_OWN = ("hpo", "trainables", "search_spaces")

_FIXES = {
    errno.ENOSPC: "make room on that disk, or choose another folder",
    errno.EDQUOT: "make room within your quota, or choose another folder",
    errno.EACCES: "change its permissions, or choose another",
    errno.EPERM: "change its permissions, or choose another",
    errno.EROFS: "choose a folder that can be written to",
    errno.ENAMETOOLONG: "choose a shorter name",
    errno.EMFILE: "raise the limit of open files (`ulimit -n`)",
    errno.ENOMEM: "close other programs, or lower --concurrency",
    errno.EAGAIN: "raise the limit of processes (`ulimit -u`, or the container's)",
}
_UNFORESEEN = (
    (MemoryError, "this machine has not enough memory; close other programs, or lower --concurrency or --cache-size"),
    (ImportError, "a package is missing or damaged; install hpo again"),
)
_DEFECT = "this is a defect of hpo, or of a package that it uses; please report it"


class Aside(logging.Handler):
    """Keeps in a file, readable by its owner alone, what other packages log; made when there is something to keep."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 0
        self._path: Path | None = None

    def emit(self, record: logging.LogRecord) -> None:
        """Keep one message of another package."""
        if record.levelno >= logging.WARNING and not is_own(record):
            self.count += 1
            self.keep(f"{record.name}: {record.getMessage()}\n")

    def catch(self) -> None:
        """Keep, too, what would appear on the terminal by itself: warnings, and errors that reach nobody."""
        logging.captureWarnings(True)

        def ignored(unraisable: Any) -> None:
            self._error(unraisable.exc_value)

        def in_thread(failed: Any) -> None:
            self._error(failed.exc_value)

        sys.unraisablehook = ignored
        threading.excepthook = in_thread

    def _error(self, error: BaseException | None) -> None:
        if error is not None:
            self.count += 1
            self.keep("".join(traceback.format_exception(error)))

    def keep(self, text: str) -> str:
        """Add `text` to the file and return where it is, in words."""
        try:
            if self._path is None:
                descriptor, name = tempfile.mkstemp(prefix="hpo-", suffix=".log")
                os.close(descriptor)
                self._path = Path(name)
            with self._path.open("a", encoding="utf-8", errors="backslashreplace") as file:
                file.write(text)
        except OSError as error:
            return f"nowhere, for no file can be written ({error.strerror})"
        return f"in {self._path}"


def is_own(record: logging.LogRecord) -> bool:
    """Return whether a message is of this project."""
    return record.name.partition(".")[0] in _OWN


def guarded(command: Callable[[], Any], aside: Aside, *, debug: bool) -> int:
    """Run `command`, say in one or two lines on stderr what it raises, and return the exit code."""
    for stream in (sys.stdout, sys.stderr):
        # A name that the terminal cannot show, or a file's name that is no text, is shown escaped.
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")
    code, message = _outcome(command, aside, debug)
    if aside.count:
        s = "s" if aside.count > 1 else ""
        logger.info("%d warning%s of other packages: %s", aside.count, s, aside.keep("").removeprefix("in "))
    if message:
        sys.stderr.write(f"{message}\n")
    return code


def _outcome(command: Callable[[], Any], aside: Aside, debug: bool) -> tuple[int, str]:
    """Return the exit code and the last words; none where there is nothing to say."""
    try:
        with stoppable() as interruption:
            code = command()
            if code == 130:
                # So typer returns where a KeyboardInterrupt reached it.
                interruption.check()
            sys.stdout.flush()
        return (code if isinstance(code, int) else 0), ""
    except SystemExit as end:
        # Typer and Rich leave so when the reader of their output has gone.
        _forget_unwritten()
        return (end.code if isinstance(end.code, int) else 1), ""
    except typer.TyperException as error:
        # A command without what it needs prints its usage, which explains itself.
        words = str(getattr(error, "format_message", error.__str__)())
        return 2, words if words.startswith("Usage:") else f"error: {words}"
    except typer.Abort:
        return 130, "interrupted"
    except HpoError as error:
        if debug and error.exit_code == 1:
            logger.exception("the command failed")
        return error.exit_code, str(error) if error.exit_code == 130 else f"error: {error}"
    except Exception as error:
        if debug:
            logger.exception("the command failed")
        return _explained(error, aside)


def _explained(error: Exception, aside: Aside) -> tuple[int, str]:
    if isinstance(error, BrokenPipeError) and _forget_unwritten():
        return 1, ""
    # The packages below raise their own kinds of ValueError for a user's mistake.
    if any(kind.__name__ in ("InputError", "SpaceError") for kind in type(error).__mro__):
        return 2, f"error: {error}"
    if isinstance(error, OSError) and not isinstance(error, ImportError):
        # A full disk, a folder that may not be written to: the system's own words name the file.
        named = f": {os.fspath(error.filename)!s}" if error.filename else ""
        fix = f"; {_FIXES[error.errno]}" if error.errno in _FIXES else ""
        return 1, f"error: {error.strerror or error}{named}{fix}"
    fix = next((words for kind, words in _UNFORESEEN if isinstance(error, kind)), _DEFECT)
    kept = aside.keep("".join(traceback.format_exception(error)))
    said = (str(error).strip().splitlines() or [""])[0][:300]
    return 1, f"error: {type(error).__name__}{f': {said}' if said else ''}\n{fix} (its traceback is {kept})."


def _forget_unwritten() -> bool:
    """Return whether the reader of stdout has gone; what it did not read then goes nowhere, without a further error."""
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stdout.fileno())
        os.close(nowhere)
        return True
    return False
