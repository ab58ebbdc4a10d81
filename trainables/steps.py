"""How far a long piece of work is: said in the log, for a bar on a terminal and for lines anywhere else."""

import logging
import time
from dataclasses import dataclass

EVERY_S = 0.5
"""Seconds between two messages about the same work, and before the first: quick work is not worth a message."""


@dataclass(frozen=True)
class Step:
    """What a message about long work carries as its attribute `step`."""

    work: str
    """Which work, the same in all its messages."""
    done: int
    total: int
    """0: not known."""


class LongWork:
    """Says how far a piece of work is."""

    def __init__(self, logger: logging.Logger, work: str) -> None:
        self._logger = logger
        self._work = work
        self._said_at = time.monotonic()

    def at(self, done: int, total: int, words: str, *arguments: object) -> None:
        """Log `words % arguments`, unless something was said a moment ago."""
        if time.monotonic() - self._said_at > EVERY_S:
            self._said_at = time.monotonic()
            self._logger.info(words, *arguments, extra={"step": Step(self._work, done, total)})


def step_of(record: logging.LogRecord) -> Step | None:
    """Return how far a message says that long work is; None: it is no such message."""
    step = getattr(record, "step", None)
    return step if isinstance(step, Step) else None
