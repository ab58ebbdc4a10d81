"""Ctrl-C and SIGTERM: the first stops in order, a second immediately."""

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager

from hpo.errors import InterruptedStudy


class Interruption:
    """The signal handler of a command whose work `command` continues."""

    def __init__(self, command: str) -> None:
        self.command = command
        self._asked = False

    @property
    def message(self) -> str:
        """The last line that the user sees."""
        return f"stopped; continue with: {self.command}"

    def check(self) -> None:
        """Raise KeyboardInterrupt again if the first one was swallowed, as in a callback that C code made."""
        if self._asked:
            raise KeyboardInterrupt

    def __call__(self, _signal: int, _frame: object) -> None:
        """Stop in order the first time, and immediately the second time."""
        if self._asked:
            os.write(2, f"{self.message}\n".encode())
            os._exit(InterruptedStudy.exit_code)
        self._asked = True
        raise KeyboardInterrupt


@contextmanager
def stoppable(command: str) -> Iterator[Interruption]:
    """Turn the first Ctrl-C or SIGTERM into `InterruptedStudy`, and the second into the end of this process.

    Args:
        command: What continues the work that was stopped; the last line that the user sees.
    """
    interruption = Interruption(command)
    previous = {number: signal.signal(number, interruption) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield interruption
    except KeyboardInterrupt as error:
        raise InterruptedStudy(interruption.message) from error
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
