"""What is said of a study while it runs: lines where there is no terminal, from events with a clock of their own."""

import io
import re
from pathlib import Path

import pytest
from rich.console import Console, Group

from hpo.ledger import studies as ledgers
from hpo.ledger.ledger import Ledger
from hpo.live.progress import Progress
from hpo.live.screen import Screen
from hpo.machines.placement import Slot
from hpo.spec import RunOptions
from tests.makers import epoch, report, study_spec

HERE = Slot("127.0.0.1", "cpu (x86_64)")


class Clock:
    """Seconds that pass when a test says so."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    splits = {"train": 75, "validation": 25}
    return ledgers.create(f"sqlite:///{tmp_path / 'o.db'}", "demo", study_spec(), RunOptions(trials=4), splits)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture(autouse=True)
def _anywhere_but_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("FORCE_COLOR", "COLUMNS"):
        monkeypatch.delenv(name, raising=False)


def run_trial(progress: Progress, ledger: Ledger, clock: Clock, epochs: int, state: str, accuracy: float) -> int:
    assignment = ledger.ask()
    progress.started(assignment)
    for number in range(1, epochs + 1):
        clock.now += 10
        result = epoch(number, accuracy, seconds=10.0)
        report(ledger, assignment.number, result)
        progress.epoch(assignment.number, result, HERE)
    ledger.finish(assignment.number, state)  # type: ignore[arg-type]
    progress.ended(assignment.number, state, None)
    return assignment.number


def progress(ledger: Ledger, clock: Clock, *, alone: bool = True, retrain: bool = False) -> Progress:
    return Progress(Screen(), ledger, RunOptions(trials=4, retrain=retrain), alone=alone, clock=clock)


def test_each_event_is_a_line_that_a_program_can_read(
    ledger: Ledger, clock: Clock, capsys: pytest.CaptureFixture[str]
) -> None:
    shown = progress(ledger, clock)

    run_trial(shown, ledger, clock, 9, "COMPLETE", 0.75)
    run_trial(shown, ledger, clock, 1, "PRUNED", 0.5)

    first, ended, _, pruned = capsys.readouterr().err.splitlines()
    assert first == "trial 0 starts: learning rate 0.01, batch size 32, 9 epochs, freeze mode none"
    assert re.fullmatch(
        r"trial 0 COMPLETE at epoch 9/9, validation 0.7500 \| 1/4 trials \| best 0.7500 \(trial 0\)"
        r" \| about \d+ \w+ left \(\d+.* to \d+ \w+\)",
        ended,
    )
    assert pruned.startswith("trial 1 PRUNED at epoch 1/")
    assert "| 2/4 trials | best 0.7500 (trial 0) | about " in pruned


def test_the_best_so_far_is_there_before_any_trial_is_complete(
    ledger: Ledger, clock: Clock, capsys: pytest.CaptureFixture[str]
) -> None:
    shown = progress(ledger, clock)

    run_trial(shown, ledger, clock, 1, "PRUNED", 0.5)

    assert "best 0.5000 (trial 0)" in capsys.readouterr().err


def test_a_complete_trial_leads_before_a_better_one_that_was_pruned(
    ledger: Ledger, clock: Clock, capsys: pytest.CaptureFixture[str]
) -> None:
    shown = progress(ledger, clock)

    run_trial(shown, ledger, clock, 1, "PRUNED", 0.9)
    run_trial(shown, ledger, clock, 9, "COMPLETE", 0.5)

    assert "best 0.5000 (trial 1)" in capsys.readouterr().err.splitlines()[-1]


def test_a_resumed_study_begins_with_what_its_ledger_has(
    ledger: Ledger, clock: Clock, capsys: pytest.CaptureFixture[str]
) -> None:
    run_trial(progress(ledger, clock), ledger, clock, 9, "COMPLETE", 0.75)
    capsys.readouterr()
    resumed = progress(ledger, clock)

    run_trial(resumed, ledger, clock, 1, "PRUNED", 0.5)

    last = capsys.readouterr().err.splitlines()[-1]
    assert "| 2/4 trials | best 0.7500 (trial 0) | about " in last


def test_of_several_studies_each_line_names_its_own(
    ledger: Ledger, clock: Clock, capsys: pytest.CaptureFixture[str]
) -> None:
    shown = progress(ledger, clock, alone=False)

    shown.started(ledger.ask())
    shown.restarted(0, "its checkpoint is missing")
    shown.ended(0, "FAIL", "ValueError: no")

    lines = capsys.readouterr().err.splitlines()
    assert [line.partition(": ")[0] for line in lines] == ["demo"] * 4
    assert lines[1:3] == [
        "demo: trial 0 starts again from epoch 0: its checkpoint is missing",
        "demo: trial 0 FAIL: ValueError: no",
    ]


def test_the_retrain_shows_its_epochs_but_no_line_for_each_of_many(
    ledger: Ledger, clock: Clock, capsys: pytest.CaptureFixture[str]
) -> None:
    shown = progress(ledger, clock, retrain=True)

    for number in range(1, 13):
        clock.now += 1
        shown.retrained(epoch(number, seconds=1.0), 12)

    lines = capsys.readouterr().err.splitlines()
    assert [line.partition(",")[0] for line in lines] == [f"retrain at epoch {n}/12" for n in (1, 7, 12)]


def test_the_time_left_counts_down_between_epochs_and_has_the_retrain(ledger: Ledger, clock: Clock) -> None:
    shown = progress(ledger, clock, retrain=True)
    for _ in range(4):
        run_trial(shown, ledger, clock, 9, "COMPLETE", 0.75)
    clock.now += 2
    before = shown.time_left()
    clock.now += 10
    after = shown.time_left()
    for number in (1, 2):
        clock.now += 12
        shown.retrained(epoch(number, seconds=12.0), 3)
    clock.now += 3
    in_retrain = shown.time_left()

    assert before is not None
    assert after is not None
    # Nine epochs of ten seconds, with a third more images and no validation.
    assert before.seconds == pytest.approx(90 * 100 / (75 + 25 / 3) - 2, rel=0.01)
    assert before.seconds - after.seconds == pytest.approx(10, rel=0.01)
    assert in_retrain is not None
    assert in_retrain.seconds == pytest.approx(9)


def test_nothing_is_left_once_all_trials_have_ended(
    ledger: Ledger, clock: Clock, capsys: pytest.CaptureFixture[str]
) -> None:
    shown = progress(ledger, clock)
    for _ in range(3):
        run_trial(shown, ledger, clock, 9, "COMPLETE", 0.75)
    last = ledger.ask()
    shown.started(last)
    clock.now += 10
    shown.epoch(last.number, epoch(1, 0.5, seconds=10.0), HERE)

    # The screen has drawn it just now.
    while_running = shown.time_left()
    shown.ended(last.number, "PRUNED", None)

    assert while_running is not None
    assert capsys.readouterr().err.splitlines()[-1].endswith("| 4/4 trials | best 0.7500 (trial 0)")
    assert shown.time_left() is None


def test_a_service_that_forces_colours_makes_no_terminal_of_its_log(
    ledger: Ledger, clock: Clock, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    with Screen() as screen:
        screen.doing("starting Ray")
        screen.print("x" * 300)

    assert capsys.readouterr().err == f"starting Ray\n{'x' * 300}\n"


def test_a_study_on_a_terminal_is_drawn(ledger: Ledger, clock: Clock) -> None:
    shown = progress(ledger, clock)
    run_trial(shown, ledger, clock, 9, "COMPLETE", 0.75)
    shown.started(ledger.ask())
    shown.epoch(1, epoch(1, 0.5, images_per_second=7.0), HERE)

    console = Console(width=100, record=True, file=io.StringIO())
    console.print(Group(*shown.draw(100, 30, ascii_only=False)))
    text = console.export_text()
    assert "demo: 1 of 4 trials: 1 COMPLETE, 1 RUNNING" in text
    assert "best 0.7500, trial 0 at epoch 1: lr 0.01, batch 32, 9 epochs, freeze none" in text
    assert "images/s: cpu 7.0" in text
