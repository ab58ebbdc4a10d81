"""The pictures of a study: how the search went, its learning curves, and the test's confusion matrix."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from hpo.ledger.records import TrialRecord

_COLOURS = {"COMPLETE": "#1f6fb4", "PRUNED": "#b9b9b9", "FAIL": "#c8423b", "RUNNING": "#e5a23d"}
_BEST = "#d1495b"
_LONGEST_LABEL = 24


def draw_search(records: Sequence[TrialRecord], best: int | None, title: str, path: Path) -> None:
    """Draw the optimisation history beside the learning curves, as a PNG."""
    figure = Figure(figsize=(12, 4.5), layout="constrained")
    history, curves = figure.subplots(1, 2)
    figure.suptitle(_plain(title))
    _history(history, records)
    _curves(curves, records, best)
    figure.savefig(path, dpi=120)


def draw_confusion(confusion: np.ndarray, classes: Sequence[str], title: str, path: Path) -> None:
    """Draw a (C, C) confusion matrix, true classes by row, as a PNG."""
    size = max(4.5, 1.8 + 0.34 * len(classes))
    figure = Figure(figsize=(size + 1.2, size), layout="constrained")
    axes = figure.subplots()
    share = confusion / np.maximum(confusion.sum(axis=1, keepdims=True), 1)
    image = axes.imshow(share, cmap="Blues", vmin=0, vmax=1)
    names = [_plain(_shortened(name)) for name in classes]
    axes.set_xticks(range(len(names)), names, rotation=60, ha="right")
    axes.set_yticks(range(len(names)), names)
    axes.set_xlabel("predicted class")
    axes.set_ylabel("true class")
    figure.suptitle(_plain(title))
    for row, column in zip(*np.nonzero(confusion), strict=True):
        colour = "white" if share[row, column] > 0.5 else "black"
        axes.text(column, row, str(confusion[row, column]), ha="center", va="center", fontsize=7, color=colour)
    figure.colorbar(image, ax=axes, label="share of the true class", shrink=0.8)
    figure.savefig(path, dpi=120)


def _history(axes: Axes, records: Sequence[TrialRecord]) -> None:
    scored = [(record, record.best.val_accuracy) for record in records if record.best is not None]
    for state, colour in _COLOURS.items():
        points = [(record.number, value) for record, value in scored if record.state == state]
        if points:
            numbers, values = zip(*points, strict=True)
            axes.scatter(numbers, values, color=colour, s=28, label=state)
    if scored:
        leading = np.maximum.accumulate([value for _, value in scored])
        axes.step([record.number for record, _ in scored], leading, where="post", color=_BEST, label="best so far")
        axes.legend(loc="lower right", fontsize=8)
    axes.set_xlabel("trial")
    axes.set_ylabel("validation accuracy (best epoch)")
    axes.set_title("optimisation history")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.grid(alpha=0.25)


def _curves(axes: Axes, records: Sequence[TrialRecord], best: int | None) -> None:
    for record in records:
        epochs = [result.epoch for result in record.curve]
        values = [result.val_accuracy for result in record.curve]
        leading = record.number == best
        axes.plot(
            epochs,
            values,
            color=_BEST if leading else _COLOURS[record.state],
            linewidth=2.2 if leading else 1,
            alpha=1 if leading else 0.6,
            zorder=3 if leading else 2,
            marker="." if len(epochs) == 1 else None,
            label=f"trial {record.number} (best)" if leading else None,
        )
    if best is not None:
        axes.legend(loc="lower right", fontsize=8)
    axes.set_xlabel("epoch")
    axes.set_ylabel("validation accuracy")
    axes.set_title("learning curves")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.grid(alpha=0.25)


def _shortened(name: str) -> str:
    return name if len(name) <= _LONGEST_LABEL else f"{name[: _LONGEST_LABEL - 1]}…"


def _plain(text: str) -> str:
    """A dollar sign would begin matplotlib's mathematics."""
    return text.replace("$", r"\$")
