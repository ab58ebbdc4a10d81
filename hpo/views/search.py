"""How a search went, drawn into axes: its history and its learning curves."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from hpo.ledger.records import TrialRecord, accuracy
from hpo.views.style import GREY, MARKERS, MUTED, OCHRE, STATES, TEAL, grid, legend_below

_MOST_CURVES = 150
"""Learning curves that are drawn: more hide each other."""
_MOST_POINTS = 100
"""Of one curve."""
_FEW = 200
"""Trials whose points leave each other room."""


def point_size(of_few: float, trials: int) -> float:
    """Return how large points of so many trials are, if those of few trials are `of_few` large."""
    return of_few if trials <= _FEW else of_few / 3


def scatter_states(axes: Axes, scored: Sequence[TrialRecord], places: Sequence[float]) -> None:
    """Draw trials at `places` by the accuracy of their best epoch, each state with its colour and marker."""
    for state, colour in STATES.items():
        points = [(x, accuracy(one)) for one, x in zip(scored, places, strict=True) if one.state == state]
        if points:
            marker, edge = MARKERS[state], {} if state == "PRUNED" else {"edgecolors": "none"}
            look: dict[str, Any] = {"color": colour, "marker": marker, "zorder": 3, **edge}
            size, width = (point_size(full, len(scored)) for full in (30, 1.4))
            across, up = zip(*points, strict=True)
            axes.scatter(across, up, s=size, linewidths=width, **look)
            # For the legend, where points are never small.
            axes.scatter([], [], s=30, linewidths=1.4, label=state, **look)


def paint_history(
    axes: Axes,
    scored: Sequence[TrialRecord],
    *,
    noise: tuple[float, float] | None = None,
    start: TrialRecord | None = None,
) -> None:
    """Draw the best epoch of each trial, and the best so far.

    Args:
        axes: Where.
        scored: Trials that have an epoch, by number.
        noise: The best one's interval, as a band.
        start: The trial that stands for what was enqueued, in a circle.
    """
    if noise is not None:
        axes.axhspan(*noise, color=TEAL, alpha=0.13, linewidth=0, label="95 % interval of the best")
    numbers = [one.number for one in scored]
    scatter_states(axes, scored, numbers)
    if scored:
        leading = np.maximum.accumulate([accuracy(one) for one in scored])
        axes.step(numbers, leading, where="post", color=TEAL, linewidth=2, label="best so far")
    if start is not None:
        axes.scatter(
            [start.number], [accuracy(start)], s=130, facecolors="none", edgecolors=OCHRE, linewidths=2, zorder=4,
            label="enqueued start",
        )  # fmt: skip
    axes.set_xlabel("trial")
    axes.set_ylabel("validation accuracy, best epoch")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    grid(axes)
    if scored:
        legend_below(axes)


def paint_curves(axes: Axes, drawn: Sequence[TrialRecord], best: int | None, rungs: Sequence[int] = ()) -> None:
    """Draw the learning curves of trials that have an epoch; `rungs` are epochs at which ASHA compared them."""
    labelled = set[str]()
    for one in sorted(drawn, key=lambda one: (one.number == best, one.state != "PRUNED", one.number)):
        leads = one.number == best
        label = f"trial {one.number} (best)" if leads else one.state
        epochs, values = _thinned(one)
        axes.plot(
            epochs,
            values,
            color=TEAL if leads else STATES[one.state],
            linewidth=2.6 if leads else 1.1,
            alpha=1 if leads else 0.75,
            marker="." if len(epochs) == 1 else None,
            label=None if label in labelled else label,
        )
        labelled.add(label)
        if one.state == "PRUNED":
            axes.plot(epochs[-1], values[-1], "x", color=GREY, markersize=5)
    reached = max((len(one.curve) for one in drawn), default=0)
    for number, rung in enumerate(one for one in rungs if one <= reached):
        axes.axvline(rung, color=MUTED, linewidth=1, linestyle=(0, (4, 3)))
        # The first says what the numbers are, to the left of its line; early rungs lie close together.
        text, place, side = (f"rung {rung}", 3, "right") if number == 0 else (str(rung), 0, "center")
        axes.annotate(
            text, (rung, 1), xycoords=("data", "axes fraction"), xytext=(place, 0), textcoords="offset points",
            fontsize=9, color=MUTED, va="bottom", ha=side,
        )  # fmt: skip
    axes.set_xlabel("epoch")
    axes.set_ylabel("validation accuracy")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    grid(axes)
    if drawn:
        legend_below(axes)


def drawn_curves(scored: Sequence[TrialRecord], best: int | None) -> list[TrialRecord]:
    """Return the trials whose curves are drawn: all, or of many the best third and every so many of the others."""
    if len(scored) <= _MOST_CURVES:
        return list(scored)
    ranked = sorted(scored, key=lambda one: (one.number != best, -accuracy(one)))
    first, rest = ranked[: _MOST_CURVES // 3], ranked[_MOST_CURVES // 3 :]
    places = np.linspace(0, len(rest) - 1, _MOST_CURVES - len(first)).astype(int)
    return [*first, *(rest[place] for place in places)]


def _thinned(record: TrialRecord) -> tuple[list[int], list[float]]:
    step = math.ceil(len(record.curve) / _MOST_POINTS)
    kept = [*record.curve[:-1:step], record.curve[-1]]
    return [one.epoch for one in kept], [one.val_accuracy for one in kept]
