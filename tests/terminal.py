"""A real terminal for a command: a pseudo-terminal, and a screen that understands what is written to it."""

import os
import signal
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import pexpect
import pyte


class Terminal:
    """Runs a command on a terminal of so many columns and lines."""

    def __init__(
        self, command: Sequence[str], columns: int, lines: int, folder: Path, environment: dict[str, str] | None = None
    ) -> None:
        self.screen = pyte.HistoryScreen(columns, lines, history=10_000)
        self._stream = pyte.Stream(self.screen)
        self.raw = ""
        self.seen: list[str] = []
        """What was on the screen, each time that something was written."""
        settings = {**os.environ, "TERM": "xterm-256color", "LANG": "C.UTF-8", **(environment or {})}
        # They would count for more than the terminal's own size, and packages set them in the process of the tests.
        for name in ("COLUMNS", "LINES"):
            settings.pop(name, None)
        self._process = pexpect.spawn(
            command[0],
            list(command[1:]),
            cwd=str(folder),
            env=settings,
            dimensions=(lines, columns),
            encoding="utf-8",
            timeout=None,
        )

    def wait(self, until: Callable[[str], bool], seconds: float = 400) -> str:
        """Read on until the screen's text is as wanted, and return it."""
        deadline = time.monotonic() + seconds
        while not until(self.text):
            assert self._read(), f"it ended:\n{self.all_text}"
            assert time.monotonic() < deadline, f"not there after {seconds} s:\n{self.text}"
        return self.text

    def end(self, seconds: float = 400) -> int:
        """Read until the command ends, and return its exit code."""
        deadline = time.monotonic() + seconds
        while self._read():
            assert time.monotonic() < deadline, self.text
        self._process.close()
        code = self._process.exitstatus
        return -(self._process.signalstatus or 0) if code is None else code

    def interrupt(self) -> None:
        """Press Ctrl-C."""
        self._process.sendcontrol("c")

    def kill(self) -> None:
        """End the command, whatever it does."""
        if self._process.isalive():
            self._process.kill(signal.SIGKILL)

    @property
    def text(self) -> str:
        """What is on the screen now."""
        return "\n".join(line.rstrip() for line in self.screen.display).rstrip()

    @property
    def all_text(self) -> str:
        """What has scrolled out at the top, and what is on the screen."""
        above = ["".join(line[x].data for x in range(self.screen.columns)) for line in self.screen.history.top]
        return "\n".join([*(line.rstrip() for line in above), self.text])

    def _read(self) -> bool:
        """Take up what was written, for a moment; False: the command has closed its terminal."""
        try:
            written = self._process.read_nonblocking(65536, timeout=0.2)
        except pexpect.TIMEOUT:
            return True
        except pexpect.EOF:
            return False
        self.raw += written
        self._stream.feed(written)
        self.seen.append(self.text)
        return True


def python(script: str) -> list[str]:
    """Return the command that runs a script."""
    return [sys.executable, "-c", script]
