"""A running study as text: in any width and height, with colours or without."""

import dataclasses
import io

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.cells import cell_len
from rich.console import Console, Group

from hpo.live.drawing import Best, Retrain, Row, View, draw, slot_name, sparkline
from hpo.machines.placement import Slot
from hpo.views.time_left import TimeLeft
from tests.makers import epoch
from trainables.config import EpochResult

PARAMS = {"learning_rate": 0.000131, "batch_size": 64, "epochs": 50, "freeze_mode": "backbone"}
FAR = slot_name(Slot("192.168.178.100", "NVIDIA GeForce RTX 3060", "0"))
VIEW = View(
    study="demo",
    counts={"COMPLETE": 5, "PRUNED": 6, "FAIL": 0},
    target=30,
    rows=[
        Row(11, PARAMS, 12, epoch(12, 0.9123, images_per_second=410.4), "cpu"),
        Row(12, PARAMS | {"freeze_mode": "none"}, 0, None, None),
    ],
    best=Best(2, epoch(7, 0.9805), PARAMS, "COMPLETE"),
    history=[0.8, 0.85, 0.85, 0.97, 0.9805],
    retrain=None,
    seconds=200.0,
    left=TimeLeft(240.0, 180.0, 360.0),
)


def text(view: View, width: int, height: int, *, ascii_only: bool = False, colours: bool = False) -> list[str]:
    stream = io.StringIO()
    console = Console(file=stream, width=width, height=height, force_terminal=colours, no_color=not colours)
    console.print(Group(*draw(view, width, height, ascii_only=ascii_only)))
    return stream.getvalue().splitlines()


def test_what_is_shown_in_80_columns() -> None:
    assert [line.rstrip() for line in text(VIEW, 80, 24)] == [
        "demo: 11 of 30 trials: 5 COMPLETE, 6 PRUNED, 2 RUNNING",
        "3 min so far, about 4 min left (3 to 6 min)",
        "best 0.9805, trial 2 at epoch 7: lr 0.00013, batch 64, 50 epochs, freeze backbo…",
        "best so far by trial ▁▃▃██ 0.8000 to 0.9805",
        "images/s: cpu 410",
        "trial       lr  batch  freeze    epochs             accuracy  images/s  machine",
        "   11  0.00013     64  backbone  ━━          12/50    0.9123       410  cpu",
        "   12  0.00013     64  none                   0/50         -         -  starting",
    ]


def test_the_machine_stays_where_the_configuration_has_no_room() -> None:
    rows = [dataclasses.replace(VIEW.rows[0], place=FAR)]

    narrow = text(dataclasses.replace(VIEW, rows=rows), 80, 24)
    wide = text(dataclasses.replace(VIEW, rows=rows), 200, 50)

    assert "192.168.178.100 RTX 3060 #0" in narrow[-1]
    assert "freeze" not in narrow[-2]
    assert "192.168.178.100 RTX 3060 #0" in wide[-1]
    assert "batch" in wide[-2]
    assert "freeze backbone" in wide[2]


def test_another_trainables_parameters_are_shown_where_there_is_room() -> None:
    params = {"rate": 0.5, "is_big": True, "epochs": 8}
    rows = [Row(3, params, 2, EpochResult(epoch=2, val_accuracy=0.5), "cpu")]
    view = dataclasses.replace(VIEW, rows=rows, best=Best(3, epoch(2, 0.5), params, "RUNNING"))

    wide, narrow = text(view, 120, 24), text(view, 56, 24)

    assert wide[2] == "best 0.5000, trial 3 at epoch 2, still running: rate 0.5, is big True, 8 epochs"
    assert wide[-2].split() == ["trial", "rate", "is", "big", "epochs", "accuracy", "images/s", "machine"]
    assert wide[-1].split()[:3] == ["3", "0.5", "True"]
    assert wide[-1].split()[-3:] == ["0.5000", "-", "cpu"]
    assert narrow[-2].split() == ["trial", "epochs", "accuracy", "images/s", "machine"]
    assert not [line for line in wide if "images/s:" in line]


def test_trials_that_share_a_card_are_summed() -> None:
    rows = [dataclasses.replace(VIEW.rows[0], number=number, place=FAR) for number in (3, 4)]

    assert f"images/s: {FAR} 821 (2 trials)" in text(dataclasses.replace(VIEW, rows=rows), 120, 24)


def test_the_retrain_has_a_bar() -> None:
    view = dataclasses.replace(VIEW, rows=[], retrain=Retrain(10, 20, 0.1234))

    assert text(view, 80, 24)[-1].rstrip() == "retrain ━━━━━━━━━━           10/20, training loss 0.1234"


def test_a_study_that_waits_for_another_is_one_line() -> None:
    view = dataclasses.replace(VIEW, rows=[], best=None, history=[], left=None, is_active=False)

    assert text(view, 80, 24) == ["demo: 11 of 30 trials: 5 COMPLETE, 6 PRUNED"]


@settings(max_examples=60, deadline=None)
@given(
    width=st.integers(10, 220),
    height=st.integers(1, 60),
    trials=st.integers(0, 70),
    name=st.sampled_from(["demo", "a-study-" * 12, "犬の研究" * 9]),
    place=st.sampled_from([None, "cpu", FAR]),
    ascii_only=st.booleans(),
    colours=st.booleans(),
    retrain=st.sampled_from([None, Retrain(3, 20, 0.5)]),
)
def test_no_line_is_wider_and_no_study_higher_than_its_terminal(
    width: int,
    height: int,
    trials: int,
    name: str,
    place: str | None,
    ascii_only: bool,
    colours: bool,
    retrain: Retrain | None,
) -> None:
    row = dataclasses.replace(VIEW.rows[0], place=place, last=VIEW.rows[0].last if place else None)
    rows = [dataclasses.replace(row, number=number) for number in range(trials)]
    view = dataclasses.replace(VIEW, study=name, rows=rows, retrain=retrain)

    lines = text(view, width, height, ascii_only=ascii_only, colours=colours)

    assert len(lines) <= height
    plain = [Console(width=500).render_str(line).plain if not colours else line for line in lines]
    assert colours or all(cell_len(line) <= width for line in plain)


def test_nothing_but_ascii_is_shown_where_a_terminal_has_no_more() -> None:
    stream = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    console = Console(file=stream, width=80, height=24, force_terminal=True, no_color=True)

    console.print(Group(*draw(VIEW, 80, 24, ascii_only=console.options.ascii_only)))
    stream.flush()

    assert b"images/s" in stream.buffer.getvalue()


@pytest.mark.parametrize(
    ("values", "line"),
    [
        ([], ""),
        ([0.5], "█"),
        ([0.5, 0.5], "██"),
        ([0.0, 0.5, 1.0], "▁▅█"),
        ([0.1 * value for value in range(10)], "▁▃▅▆█"),
    ],
)
def test_a_sparkline_rises_to_the_greatest(values: list[float], line: str) -> None:
    assert sparkline(values, 5) == line


def test_a_sparkline_of_a_thousand_trials_ends_with_the_last() -> None:
    line = sparkline([*[0.1] * 999, 0.9], 10, ascii_only=True)

    assert line == "_" * 9 + "#"


@pytest.mark.parametrize(
    ("slot", "name"),
    [
        (Slot("127.0.0.1", "cpu (x86_64)"), "cpu"),
        (Slot("10.0.0.2", "cpu (x86_64)"), "10.0.0.2 cpu"),
        (Slot("127.0.0.1", "NVIDIA GeForce RTX 3060", "1"), "RTX 3060 #1"),
        (Slot("10.0.0.2", "NVIDIA A100-SXM4-80GB", "0"), "10.0.0.2 A100-SXM4-80GB #0"),
    ],
)
def test_a_place_is_named_in_few_words(slot: Slot, name: str) -> None:
    assert slot_name(slot) == name
