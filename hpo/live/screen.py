"""The screen of a command that takes long: what it does now, then its studies, redrawn in place on a terminal.

Anywhere else each event is a line. All of it goes to stderr, so that stdout holds results only.
"""

import logging
import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import Protocol

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.spinner import Spinner
from rich.table import Table

from trainables.steps import Step, step_of

_BAR_WIDTH = 24
_FRAMES_PER_SECOND = 4


class Shown(Protocol):
    """A study on the screen."""

    def draw(self, width: int, height: int, *, ascii_only: bool) -> list[RenderableType]:
        """Return what is shown of it, in at most so many columns and lines."""


def is_interactive() -> bool:
    """Return whether stderr is a terminal on which lines can be redrawn."""
    return sys.stderr.isatty() and os.environ.get("TERM", "dumb").lower() not in ("dumb", "unknown")


class Screen:
    """Shows what a command does, within its ``with`` block."""

    def __init__(self) -> None:
        self.is_live = is_interactive()
        # FORCE_COLOR, which some services set for their logs, makes no terminal of them.
        self.console = Console(
            stderr=True, markup=False, emoji=False, highlight=False, force_terminal=None if self.is_live else False
        )
        self._spinner: Spinner | None = None
        self._begun_at = 0.0
        self._studies: list[Shown] = []
        self._steps = _Steps()
        # Rows change with every epoch, so the screen is drawn when the clock says so.
        self._live = Live(
            console=self.console,
            get_renderable=self._drawn,
            refresh_per_second=_FRAMES_PER_SECOND,
            transient=True,
            redirect_stdout=False,
        )

    def __enter__(self) -> "Screen":
        if self.is_live:
            logging.getLogger().addHandler(self._steps)
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.is_live:
            self._live.stop()
            logging.getLogger().removeHandler(self._steps)

    def doing(self, words: str) -> None:
        """Say what is done now, until something else is, or a study is added."""
        self._steps.current.clear()
        if self.is_live:
            self._begun_at = time.monotonic()
            self._spinner = Spinner("line" if self.console.options.ascii_only else "dots", words)
            self._live.refresh()
        else:
            self.print(words)

    def add(self, study: Shown) -> None:
        """Show one more study."""
        self._spinner = None
        self._steps.current.clear()
        self._studies.append(study)

    def print(self, line: str) -> None:
        """Print a line for good, above what is redrawn."""
        self.console.print(line, soft_wrap=not self.is_live)

    def _drawn(self) -> Group:
        size, ascii_only = self.console.size, self.console.options.ascii_only
        parts: list[RenderableType] = []
        if self._spinner is not None:
            seconds = time.monotonic() - self._begun_at
            words = str(self._spinner.text).partition(" (")[0]
            self._spinner.update(text=f"{words} ({seconds:.0f} s)" if seconds >= 1 else words)
            parts.append(self._spinner)
        parts += [_bar(step, words) for step, words in list(self._steps.current.values())]
        # The cursor's line stays free: what is typed, such as ^C, is written there.
        left = size.height - len(parts) - 1
        for number, study in enumerate(self._studies):
            drawn = study.draw(size.width, left // (len(self._studies) - number), ascii_only=ascii_only)
            left -= len(drawn)
            parts += drawn
        return Group(*parts, "")


@contextmanager
def shown_on(screen: Screen | None) -> Iterator[Screen]:
    """Yield `screen`, which its owner has opened, or one for the length of the block."""
    if screen is not None:
        yield screen
        return
    with Screen() as own:
        yield own


class _Steps(logging.Handler):
    """Keeps how far long work is, by the messages about it."""

    def __init__(self) -> None:
        super().__init__()
        self.current: dict[str, tuple[Step, str]] = {}

    def emit(self, record: logging.LogRecord) -> None:
        step = step_of(record)
        if step is not None:
            self.current[step.work] = (step, record.getMessage())


def _bar(step: Step, words: str) -> RenderableType:
    row = Table.grid(padding=(0, 1))
    row.add_column(width=_BAR_WIDTH)
    row.add_column(overflow="ellipsis", no_wrap=True)
    bar = ProgressBar(total=step.total or None, completed=step.done, width=_BAR_WIDTH, pulse=not step.total)
    row.add_row(bar, words)
    return row
