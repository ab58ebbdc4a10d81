"""The screen in a real terminal, with a study that is no study: what stays, what goes, and what is not swallowed."""

from pathlib import Path

import pytest

from tests.terminal import Terminal, python

ROOT = Path(__file__).parents[3]
SCRIPT = """
import logging, signal, sys, time
from hpo.cli.guard import guarded
from hpo.cli.main import _configure_logging
from hpo.errors import HpoError
from hpo.live.screen import Screen
from rich.text import Text
from trainables.steps import LongWork, Step

class Study:
    def draw(self, width, height, *, ascii_only):
        return [Text("row " * 99, no_wrap=True, overflow="ellipsis")] * 3

def command():
    with Screen() as screen:
        screen.doing("opening digits")
        logging.getLogger("trainables").info("decoded 5 of 20", extra={"step": Step("decoding", 5, 20)})
        time.sleep(0.6)
        screen.add(Study())
        logging.getLogger("hpo").warning("node 10.0.0.2 is gone; %s", "its trials continue elsewhere " * 4)
        sys.stderr.write("said by another package\\n")
        time.sleep(0.6)
        END
raise SystemExit(guarded(command, _configure_logging(False), debug=False))
"""


def terminal(end: str, columns: int = 80, lines: int = 24, **settings: str) -> Terminal:
    return Terminal(python(SCRIPT.replace("END", end)), columns, lines, ROOT, settings)


@pytest.mark.parametrize(("columns", "lines"), [(80, 24), (200, 50), (20, 5)])
def test_what_is_redrawn_goes_and_what_was_said_stays(columns: int, lines: int) -> None:
    shown = terminal("raise HpoError('no room; make some')", columns, lines)

    opening = shown.wait(lambda text: "opening" in text and "decoded" in text)
    shown.wait(lambda text: "row row" in text)
    code = shown.end()

    assert "━" in opening
    assert code == 1
    said = shown.all_text.replace("\n", " ").replace("  ", " ")
    assert "node 10.0.0.2 is gone;" in said
    assert "said by another package" in said
    assert shown.text.replace("\n", "").endswith("error: no room; make some")
    assert "row row" not in shown.all_text
    assert "opening digits" not in shown.all_text
    assert not shown.screen.cursor.hidden


@pytest.mark.parametrize(
    "end", ["import os; os.kill(os.getpid(), signal.SIGINT); time.sleep(9)", "time.sleep(60)"], ids=["signal", "key"]
)
def test_ctrl_c_gives_the_terminal_back(end: str) -> None:
    shown = terminal(end)
    shown.wait(lambda text: "row row" in text)
    if "60" in end:
        shown.interrupt()

    assert shown.end() == 130
    assert shown.text.splitlines()[-1] == "interrupted"
    assert "row row" not in shown.all_text
    assert not shown.screen.cursor.hidden


def test_without_colours_none_are_written() -> None:
    shown = terminal("pass", NO_COLOR="1")
    shown.wait(lambda text: "row row" in text)

    assert shown.end() == 0
    assert "\x1b[3" not in shown.raw


def test_a_terminal_that_cannot_redraw_gets_lines() -> None:
    shown = terminal("pass", TERM="dumb")

    assert shown.end() == 0
    lines = shown.all_text.splitlines()
    assert lines[:2] == ["opening digits", "decoded 5 of 20"]
    assert "\x1b" not in shown.raw
