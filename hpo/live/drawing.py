"""A running study as lines of a terminal, within its width and height, with colours or without."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from rich.console import Console, OverflowMethod, RenderableType
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from hpo.machines.connection import is_loopback
from hpo.machines.placement import Slot
from hpo.views.summary import duration, left_in_words
from hpo.views.time_left import TimeLeft
from hpo.views.trainables import in_order, in_words, label, shown
from trainables.config import EpochResult

_BLOCKS = "▁▂▃▄▅▆▇█"
_ASCII_BLOCKS = "_.-=+*%#"
_BAR_WIDTH = 10
_SHORT = {"learning_rate": "lr", "batch_size": "batch", "freeze_mode": "freeze"}
"""Names of parameters where there is little room."""
_SPARKS = 24
"""Columns that a sparkline may take."""


@dataclass(frozen=True)
class Best:
    """The best trial so far."""

    number: int
    result: EpochResult
    """Its best epoch."""
    params: dict[str, Any]
    state: str


@dataclass(frozen=True)
class Row:
    """A trial that runs."""

    number: int
    params: dict[str, Any]
    done: int
    """Epochs that it has."""
    last: EpochResult | None
    place: str | None
    """Where it runs; None, as `last`, before its first epoch of this run."""


@dataclass(frozen=True)
class Retrain:
    """The final model in training."""

    epoch: int
    epochs: int
    train_loss: float


@dataclass(frozen=True)
class View:
    """What is shown of a study."""

    study: str
    counts: dict[str, int]
    """Ended trials by state."""
    target: int
    rows: list[Row]
    best: Best | None
    history: list[float]
    """The best so far after each trial that ended."""
    retrain: Retrain | None
    seconds: float
    """Since this run began."""
    left: TimeLeft | None
    is_active: bool = True
    """Whether it has begun: of several studies, one runs after the other."""


def draw(view: View, width: int, height: int, *, ascii_only: bool) -> list[RenderableType]:
    """Return a study's lines, at most `height` of them where there is room for one."""
    # The ellipsis is no ASCII.
    cut: OverflowMethod = "crop" if ascii_only else "ellipsis"
    states = ", ".join(
        f"{count} {state}" for state, count in (*view.counts.items(), ("RUNNING", len(view.rows))) if count
    )
    heading = f"{view.study}: {sum(view.counts.values())} of {view.target} trials{f': {states}' if states else ''}"
    lines: list[RenderableType] = [_one_line(heading, cut, "bold")]
    if not view.is_active:
        return lines
    lines.append(_one_line(_times(view), cut))
    if view.best is not None:
        lines.append(_one_line(_best(view.best), cut, "green"))
    if len(view.history) > 1:
        lines.append(_one_line(_history(view.history, ascii_only), cut))
    throughputs = _throughputs(view.rows)
    if throughputs:
        lines.append(_one_line(throughputs, cut))
    lines = lines[: max(1, height)]
    if view.retrain is not None and len(lines) < height:
        lines.append(_retrain(view.retrain, cut))
    room = height - len(lines) - 2
    if view.rows and room > 0:
        lines += _trials(view.rows, width, room, cut)
    return lines


def sparkline(values: Sequence[float], columns: int = _SPARKS, *, ascii_only: bool = False) -> str:
    """Return `values`, each from 0 to 1, as columns between the least and the greatest, the latest last.

    Of more values than columns, each column shows the last of its share.
    """
    count = min(len(values), columns)
    shown = [values[(column + 1) * len(values) // count - 1] for column in range(count)]
    low, high = min(shown, default=0.0), max(shown, default=0.0)
    blocks = _ASCII_BLOCKS if ascii_only else _BLOCKS
    steps = len(blocks) - 1
    return "".join(blocks[round((value - low) / (high - low) * steps) if high > low else steps] for value in shown)


def slot_name(slot: Slot) -> str:
    """Return what a person calls a slot: ``192.168.1.7 RTX 2070 #0``, or ``cpu`` on this machine."""
    device = "cpu" if slot.device.startswith("cpu ") else slot.device.removeprefix("NVIDIA ").removeprefix("GeForce ")
    card = "" if slot.card is None else f" #{slot.card}"
    return f"{'' if is_loopback(slot.host) else f'{slot.host} '}{device}{card}"


def _one_line(text: str, cut: OverflowMethod, style: str = "") -> Text:
    return Text(text, style=style, no_wrap=True, overflow=cut)


def _times(view: View) -> str:
    return f"{duration(view.seconds)} so far{f', {left_in_words(view.left)}' if view.left else ''}"


def _best(best: Best) -> str:
    still = ", still running" if best.state == "RUNNING" else ""
    return (
        f"best {best.result.val_accuracy:.4f}, trial {best.number} at epoch {best.result.epoch}{still}:"
        f" {in_words(best.params, _SHORT)}"
    )


def _history(history: Sequence[float], ascii_only: bool) -> str:
    line = sparkline(history, ascii_only=ascii_only)
    return f"best so far by trial {line} {history[0]:.4f} to {history[-1]:.4f}"


def _throughputs(rows: Sequence[Row]) -> str:
    """The images per second of each place at which trials run."""
    places: dict[str, list[float]] = {}
    for row in rows:
        if row.place is not None and row.last is not None and row.last.images_per_second is not None:
            places.setdefault(row.place, []).append(row.last.images_per_second)
    parts = [
        f"{place} {_rate(sum(one))}{f' ({len(one)} trials)' if len(one) > 1 else ''}" for place, one in places.items()
    ]
    return f"images/s: {', '.join(parts)}" if parts else ""


def _rate(images_per_second: float | None) -> str:
    if images_per_second is None:
        return "-"
    return f"{images_per_second:.1f}" if images_per_second < 10 else f"{images_per_second:.0f}"


def _retrain(retrain: Retrain, cut: OverflowMethod) -> RenderableType:
    row = Table.grid(padding=(0, 1))
    for _ in range(3):
        row.add_column(no_wrap=True, overflow=cut)
    row.add_row(
        "retrain",
        ProgressBar(total=retrain.epochs, completed=retrain.epoch, width=2 * _BAR_WIDTH),
        f"{retrain.epoch}/{retrain.epochs}, training loss {retrain.train_loss:.4f}",
    )
    return row


def _trials(rows: Sequence[Row], width: int, room: int, cut: OverflowMethod) -> list[RenderableType]:
    """A table of the trials that run, in `room` lines and one for its headings."""
    kept = rows if len(rows) <= room else rows[: max(0, room - 1)]
    console = Console(width=10_000)
    table = None
    names = [name for name in in_order(rows[0].params) if name != "epochs"]
    # What fine-tuning is told by goes last.
    for columns in (names, [name for name in names if name == "freeze_mode"], []):
        table = _table(kept, columns, cut)
        if console.measure(table).maximum <= width:
            break
    assert table is not None
    more = len(rows) - len(kept)
    return [table, *([_one_line(f"and {more} more", cut)] if more else [])]


def _table(rows: Sequence[Row], names: Sequence[str], cut: OverflowMethod) -> Table:
    table = Table(box=None, pad_edge=False)
    for name in ("trial", *names, "epochs", "", "accuracy", "images/s", "machine"):
        left = name in ("freeze_mode", "epochs", "machine")
        heading = _SHORT.get(name, label(name))
        table.add_column(heading, justify="left" if left else "right", no_wrap=True, overflow=cut)
    for row in rows:
        epochs = int(row.params["epochs"])
        table.add_row(
            str(row.number),
            *(shown(row.params.get(name, "-")) for name in names),
            ProgressBar(total=epochs, completed=row.done, width=_BAR_WIDTH),
            f"{row.done}/{epochs}",
            f"{row.last.val_accuracy:.4f}" if row.last else "-",
            _rate(row.last.images_per_second) if row.last else "-",
            row.place or "starting",
        )
    return table
