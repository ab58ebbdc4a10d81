"""Ctrl-C: in order the first time, wherever Python is."""

import signal
import time
import weakref

import pytest

from hpo.errors import InterruptedStudy
from hpo.interrupts import stoppable


class Thing:
    """Something that can be referred to weakly."""


def wait() -> None:
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        time.sleep(0.01)


def test_a_signal_stops_in_order_and_says_what_continues() -> None:
    def command() -> None:
        with stoppable("hpo resume x"):
            signal.raise_signal(signal.SIGINT)
            wait()

    with pytest.raises(InterruptedStudy, match=r"^stopped; continue with: hpo resume x$"):
        command()


def test_a_signal_that_python_ignores_comes_again() -> None:
    def command() -> None:
        thing = Thing()
        # As in an import, whose locks are forgotten in such a callback.
        reference = weakref.ref(thing, lambda _: signal.raise_signal(signal.SIGINT))
        with stoppable():
            del thing
            assert reference() is None
            wait()

    with pytest.raises(InterruptedStudy):
        command()


def test_what_else_python_ignores_is_left_to_others(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []
    monkeypatch.setattr("sys.unraisablehook", lambda given: seen.append(given.exc_type))
    thing = Thing()
    reference = weakref.ref(thing, lambda _: 1 / 0)

    with stoppable():
        del thing

    assert (reference(), seen) == (None, [ZeroDivisionError])
