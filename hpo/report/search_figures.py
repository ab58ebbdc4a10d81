"""How a search went, as figures: its history, its learning curves, and what accuracy cost."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator

from hpo.final.significance import wilson_interval
from hpo.ledger.records import TrialRecord
from hpo.report.source import StudySource, accuracy, trained_seconds
from hpo.report.style import GREY, MARKERS, MUTED, OCHRE, STATES, TEAL, Drawing, draw, grid
from hpo.spec import SearchConfig

_MOST_CURVES = 150
"""Learning curves that are drawn: more hide each other."""
_MOST_POINTS = 100
"""Of one curve."""


def search_drawings(source: StudySource) -> list[Drawing]:
    """Return the figures that a study's trials allow; none where no trial has an epoch."""
    scored = [one for one in source.records if one.best is not None]
    if not scored:
        return []
    return [_history(source, scored), _curves(source, scored), _cost(scored)]


def rung_epochs(search: SearchConfig, longest: int) -> list[int]:
    """Return the epochs at which ASHA compares trials of up to `longest` epochs, as Ray's scheduler places them."""
    if not search.asha:
        return []
    count = int(math.log(longest / search.grace_period) / math.log(search.reduction_factor) + 1)
    return [math.ceil(search.grace_period * search.reduction_factor**rung) for rung in range(count)]


def scatter_states(axes: Axes, records: Sequence[TrialRecord], places: Sequence[float]) -> None:
    """Draw trials at `places` by the accuracy of their best epoch, each state with its colour and marker."""
    for state, colour in STATES.items():
        points = [(x, accuracy(one)) for one, x in zip(records, places, strict=True) if one.state == state]
        if points:
            marker, edge = MARKERS[state], {} if state == "PRUNED" else {"edgecolors": "none"}
            arguments: dict[str, Any] = {"color": colour, "marker": marker, "label": state, **edge}
            across, up = zip(*points, strict=True)
            axes.scatter(across, up, s=30, linewidths=1.4, zorder=3, **arguments)


def _history(source: StudySource, scored: Sequence[TrialRecord]) -> Drawing:
    best, images = source.best, source.splits.get("validation")
    noise = wilson_interval(round(accuracy(best) * images), images) if best is not None and images else None

    def paint(figure: Figure) -> None:
        axes = figure.subplots()
        if noise is not None:
            axes.axhspan(*noise, color=TEAL, alpha=0.13, linewidth=0, label="95 % interval of the best")
        scatter_states(axes, scored, [one.number for one in scored])
        leading = np.maximum.accumulate([accuracy(one) for one in scored])
        axes.step([one.number for one in scored], leading, where="post", color=TEAL, linewidth=2, label="best so far")
        if source.start is not None:
            axes.scatter(
                [source.start.number], [accuracy(source.start)], s=130, facecolors="none", edgecolors=OCHRE,
                linewidths=2, zorder=4, label="enqueued start",
            )  # fmt: skip
        axes.set_xlabel("trial")
        axes.set_ylabel("validation accuracy, best epoch")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        grid(axes)
        _legend(axes)

    caption = (
        "Each trial by its best epoch. The band is the 95 % interval of the best: how far another draw of as many"
        " validation images could move it."
    )
    alt = f"Validation accuracy of {len(scored)} trials in the order of their numbers."
    if best is not None:
        alt += f" The best is trial {best.number} with {accuracy(best):.4f}."
    return draw("history", "Optimisation history", caption, alt, paint)


def _curves(source: StudySource, scored: Sequence[TrialRecord]) -> Drawing:
    best = source.best.number if source.best is not None else None
    drawn = _chosen(scored, best)
    rungs = rung_epochs(source.spec.search, source.space.max_epochs)

    def paint(figure: Figure) -> None:
        axes = figure.subplots()
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
        reached = max(len(one.curve) for one in drawn)
        for rung in rungs:
            if rung <= reached:
                axes.axvline(rung, color=MUTED, linewidth=1, linestyle=(0, (4, 3)))
                axes.annotate(
                    f"rung {rung}", (rung, 1), xycoords=("data", "axes fraction"), xytext=(3, 0),
                    textcoords="offset points", fontsize=9, color=MUTED, va="bottom", ha="center",
                )  # fmt: skip
        axes.set_xlabel("epoch")
        axes.set_ylabel("validation accuracy")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        grid(axes)
        _legend(axes)

    caption = "Validation accuracy by epoch; pruned trials are grey and end where they were stopped."
    if rungs:
        keep = f"1 in {source.spec.search.reduction_factor:g}"
        caption += f" At the rungs (epochs {', '.join(map(str, rungs))}) ASHA lets about {keep} continue."
    else:
        caption += " ASHA was off."
    if len(drawn) < len(scored):
        caption += f" Drawn are {len(drawn)} of {len(scored)} trials: the best third, and of the others every so many."
    alt = f"Learning curves of {len(drawn)} trials, {sum(one.state == 'PRUNED' for one in drawn)} of them pruned."
    return draw("curves", "Learning curves", caption, alt, paint)


def _chosen(scored: Sequence[TrialRecord], best: int | None) -> list[TrialRecord]:
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


def _cost(scored: Sequence[TrialRecord]) -> Drawing:
    seconds = [max(trained_seconds(one), 1e-3) for one in scored]
    unit, size = time_unit(max(seconds))
    times = [one / size for one in seconds]
    front: list[int] = []
    for index in sorted(range(len(scored)), key=lambda index: times[index]):
        if not front or accuracy(scored[index]) > accuracy(scored[front[-1]]):
            front.append(index)

    def paint(figure: Figure) -> None:
        axes = figure.subplots()
        leading = [accuracy(scored[index]) for index in front]
        reached = [*(times[index] for index in front), max(times)]
        axes.step(reached, [*leading, leading[-1]], where="post", color=TEAL, linewidth=1.8, label="best for its cost")
        scatter_states(axes, scored, times)
        time_axis(axes, times, "training time of the trial", unit)
        axes.set_ylabel("validation accuracy, best epoch")
        grid(axes)
        _legend(axes)

    caption = (
        "What each trial's epochs took, waits excluded, on whichever device it ran. The line is the best accuracy that"
        " so much time has bought."
    )
    cheapest, dearest = front[0], front[-1]
    alt = (
        f"Accuracy against training time: from {accuracy(scored[cheapest]):.4f} in {times[cheapest]:.3g} {unit}"
        f" to {accuracy(scored[dearest]):.4f} in {times[dearest]:.3g} {unit}."
    )
    return draw("cost", "Accuracy against cost", caption, alt, paint)


def time_unit(longest: float) -> tuple[str, float]:
    """Return the unit in which times of up to `longest` seconds are shown, and its seconds."""
    return next(((unit, size) for unit, size in (("h", 3600.0), ("min", 60.0)) if longest > 3 * size), ("s", 1.0))


def time_axis(axes: Axes, times: Sequence[float], label: str, unit: str) -> None:
    """Make the x axis one of `times` in `unit`, logarithmic where they span more than a decade."""
    if max(times) > 10 * min(times):
        axes.set_xscale("log")
    axes.xaxis.set_major_formatter(FuncFormatter(lambda place, _: f"{place:.4g}"))
    axes.xaxis.set_minor_formatter(FuncFormatter(lambda *_: ""))
    axes.set_xlabel(f"{label}, {unit}")


def _legend(axes: Axes) -> None:
    """Below the axes, where it hides nothing."""
    axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.16), ncols=3, handletextpad=0.4, columnspacing=1.2)
