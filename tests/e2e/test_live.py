"""A study in a real terminal: what is on the screen at its start, while it runs, at its end and after Ctrl-C."""

import re
from collections.abc import Iterator

import pytest

from tests.e2e.shell import HPO, Shell
from tests.terminal import Terminal

FOREIGN = re.compile(r"\(raylet|\(pid=|ray::|\[2\d\d\d-|WARNING|Traceback", re.IGNORECASE)


@pytest.fixture(scope="module")
def shell(tmp_path_factory: pytest.TempPathFactory) -> Shell:
    return Shell(tmp_path_factory.mktemp("live"))


@pytest.fixture(scope="module")
def watched(shell: Shell) -> Iterator[Terminal]:
    """A study of four trials in 80 columns and 24 lines, from its start to its end."""
    terminal = Terminal([str(HPO), *shell.asked(trials=4)], 80, 24, shell.folder, shell.environment)
    yield terminal
    terminal.kill()


def test_a_study_in_80_columns_shows_what_it_does_and_leaves_its_result(watched: Terminal) -> None:
    watched.wait(lambda text: "study tiny: opening digits" in text)
    running = watched.wait(lambda text: re.search(r"\d/\d+ +0\.\d{4} +\d+ +cpu$", text, re.MULTILINE) is not None)
    code = watched.end()

    lines = running.splitlines()
    assert re.match(r"tiny: \d of 4 trials", next(line for line in lines if line.startswith("tiny")))
    assert any(re.search(r"so far, about \d+ \w+ left \(\d", screen) for screen in watched.seen)
    assert any("best so far by trial" in screen for screen in watched.seen)
    assert any(re.search(r"^retrain +━", screen, re.MULTILINE) for screen in watched.seen)
    assert code == 0
    assert re.search(r"^study tiny: .* COMPLETE.*\nbest: trial ", watched.all_text, re.MULTILINE)
    assert "held-out test accuracy" in watched.all_text
    # What was redrawn is gone.
    assert "tiny: 4 of 4 trials" not in watched.all_text
    assert not watched.screen.cursor.hidden


def test_nothing_of_ray_and_no_line_that_was_too_long_was_on_the_screen(watched: Terminal) -> None:
    assert watched.seen
    assert not FOREIGN.search(watched.raw)
    # A line that was too long would have left its heading's beginning a second time.
    assert max(screen.count("tiny: ") for screen in watched.seen) <= 2


@pytest.mark.slow
def test_ctrl_c_in_200_columns_gives_the_terminal_back_and_says_how_to_continue(
    shell: Shell, watched: Terminal
) -> None:
    command = [str(HPO), "resume", "tiny", "--trials", "30"]
    terminal = Terminal(command, 200, 50, shell.folder, shell.environment)
    try:
        running = terminal.wait(lambda text: "batch" in text and " cpu" in text and "images/s: " in text)
        terminal.interrupt()
        code = terminal.end(100)
    finally:
        terminal.kill()

    assert re.search(r"^best 0\.\d{4}, trial \d at epoch \d+: lr .* freeze \w+$", running, re.MULTILINE)
    assert code == 130
    assert terminal.text.splitlines()[-1] == "stopped; continue with: hpo resume tiny"
    assert "RUNNING" not in terminal.all_text
    assert not terminal.screen.cursor.hidden
