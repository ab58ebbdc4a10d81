"""How a search went, as figures: its history, its learning curves, and what accuracy cost."""

import math
from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter

from hpo.final.significance import wilson_interval
from hpo.ledger.records import TrialRecord, accuracy
from hpo.report.drawing import Drawing, draw
from hpo.report.source import StudySource
from hpo.spec import SearchConfig
from hpo.views.search import drawn_curves, paint_curves, paint_history, scatter_states
from hpo.views.style import TEAL, grid, legend_below


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


def _history(source: StudySource, scored: Sequence[TrialRecord]) -> Drawing:
    best, images = source.best, source.splits.get("validation")
    noise = wilson_interval(round(accuracy(best) * images), images) if best is not None and images else None

    def paint(figure: Figure) -> None:
        paint_history(figure.subplots(), scored, noise=noise, start=source.start)

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
    drawn = drawn_curves(scored, best)
    rungs = rung_epochs(source.spec.search, source.space.max_epochs)

    def paint(figure: Figure) -> None:
        paint_curves(figure.subplots(), drawn, best, rungs)

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


def _cost(scored: Sequence[TrialRecord]) -> Drawing:
    seconds = [max(one.seconds_trained, 1e-3) for one in scored]
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
        legend_below(axes)

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
