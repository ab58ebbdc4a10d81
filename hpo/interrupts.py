"""Ctrl-C and SIGTERM: the first stops in order, a second immediately."""

import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from hpo.errors import InterruptedStudy

_AGAIN_S = 0.05


class Interruption:
    """The signal handler of a command whose work `command` continues; None: there is nothing to continue."""

    def __init__(self, command: str | None) -> None:
        self.command = command
        self.asked = False
        """Whether a signal came."""
        self._swallowed = False

    @property
    def message(self) -> str:
        """The last line that the user sees."""
        return "interrupted" if self.command is None else f"stopped; continue with: {self.command}"

    def check(self) -> None:
        """Raise KeyboardInterrupt again if the first one was swallowed, as in a callback that C code made."""
        if self.asked:
            raise KeyboardInterrupt

    def __call__(self, _signal: int, _frame: object) -> None:
        """Stop in order the first time, and immediately the second time."""
        if self.asked and not self._swallowed:
            # A screen that is redrawn hides the cursor.
            shown = "\x1b[?25h" if sys.stderr.isatty() else ""
            os.write(2, f"{shown}{self.message}\n".encode())
            os._exit(InterruptedStudy.exit_code)
        self.asked, self._swallowed = True, False
        raise KeyboardInterrupt

    def again(self) -> None:
        """Send the signal once more, since Python ignored what it raised: it came in a destructor or weak reference."""
        self._swallowed = True
        # Once that has returned.
        threading.Timer(_AGAIN_S, signal.pthread_kill, (threading.main_thread().ident, signal.SIGINT)).start()


@contextmanager
def stoppable(command: str | None = None) -> Iterator[Interruption]:
    """Turn the first Ctrl-C or SIGTERM into `InterruptedStudy`, and the second into the end of this process.

    Args:
        command: What continues the work that was stopped, in the last line that the user sees; None: nothing does.
    """
    interruption = Interruption(command)
    ignored = sys.unraisablehook

    def unraisable(given: "sys.UnraisableHookArgs") -> None:
        if interruption.asked and isinstance(given.exc_value, KeyboardInterrupt):
            interruption.again()
        else:
            ignored(given)

    sys.unraisablehook = unraisable
    previous = {number: signal.signal(number, interruption) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield interruption
    except InterruptedStudy:
        raise
    except BaseException as error:
        # What a signal cut short, such as an import or Ray's start, may fail with an error of its own.
        if interruption.asked or isinstance(error, KeyboardInterrupt):
            raise InterruptedStudy(interruption.message) from error
        raise
    finally:
        sys.unraisablehook = ignored
        for number, handler in previous.items():
            signal.signal(number, handler)
