"""The paper's bar charts, redrawn with what was measured beside what was published."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from matplotlib.axes import Axes
from matplotlib.figure import Figure as Canvas
from matplotlib.patches import Patch

from hpo.final.significance import wilson_interval
from hpo.paper.experiment import Bar, Experiment, Figure, Protocol
from hpo.paper.measured import Measured, right
from hpo.paper.page.wording import level_words, protocol_words
from hpo.paper.paired import Estimate, accuracy
from hpo.report.drawing import WIDE, Drawing, draw
from hpo.views.style import BLUE, BROWN, GREY, INK, OCHRE, PURPLE, TEAL, VERMILION, grid

_LEVELS = (BLUE, OCHRE, TEAL, PURPLE, VERMILION, BROWN, GREY)
_HEIGHT = 3.9
_HATCH = "//////"


@dataclass(frozen=True)
class _Series:
    """Bars of one kind, one per configuration."""

    label: str
    accuracies: Sequence[Estimate | None]
    """In the order of the figure's bars."""
    is_open: bool
    hatch: str | None = None


def measured_accuracy(measured: Measured, bar: Bar) -> Estimate | None:
    """Return what was measured of a bar's configuration; None: nothing."""
    cells = measured.get(bar.point)
    return accuracy(right(cells)) if cells else None


def published_accuracy(experiment: Experiment, bar: Bar) -> Estimate | None:
    """Return what was published of a bar, with the interval of its test images, where their number is known."""
    if bar.published is None:
        return None
    value, images = bar.published, experiment.test_images
    low, high = wilson_interval(round(value * images), images) if images else (value, value)
    return Estimate(value, min(low, value), max(high, value), 1)


def chart(experiment: Experiment, figure: Figure, measured: Mapping[Protocol, Measured]) -> Drawing | None:
    """Draw a figure of the paper; None: it has a single configuration.

    Args:
        experiment: With the scale at which it was measured.
        figure: One of its figures.
        measured: The protocols whose cells stand beside the published accuracies: up to two.
    """
    bars = experiment.bars(figure)
    if len(bars) < 2:
        return None
    published = _Series("published", [published_accuracy(experiment, one) for one in bars], True)
    found = [
        _Series(
            f"measured, {protocol_words(protocol, experiment)}",
            [measured_accuracy(cells, one) for one in bars],
            bool(number),
            _HATCH if number else None,
        )
        for number, (protocol, cells) in enumerate(measured.items())
    ]
    series = [published, *(one for one in found if any(one.accuracies))]
    backbones = list(dict.fromkeys(one.point.backbone for one in bars))

    def paint(canvas: Canvas) -> None:
        axes = canvas.subplots()
        if len(backbones) > 1:
            _paint_groups(axes, bars, backbones, figure.levels, series)
        else:
            _paint_groups(axes, bars, [level_words(figure, one.level, one.point) for one in bars], [""], series)
            axes.set_xlabel(f"{figure.varies.replace('_', ' ')} ({backbones[0]})")
        axes.set_ylabel("held-out test accuracy")
        axes.set_ylim(0, 1)
        axes.tick_params("x", length=0)
        grid(axes, "y")
        handles, columns = _in_rows(_legend(figure, bars, series, len(backbones)))
        canvas.legend(handles=handles, loc="outside upper left", ncols=columns)

    caption = "Open bars: published. " + (
        " ".join(_explained(one) for one in series[1:]) or "Nothing of this figure was measured."
    )
    caption += " Lines are 95 % intervals" + (
        ", those of the published bars over the test images alone." if experiment.test_images else "."
    )
    if experiment.scale != 1:
        caption += f" Measured with {experiment.scale:g} times the published epochs."
    return draw(figure.id, figure.title, f"{caption} {figure.note}".strip(), _alt(bars, series), paint, (WIDE, _HEIGHT))


def _explained(series: _Series) -> str:
    label = series.label.removeprefix("measured, ")
    return f"{'Hatched' if series.hatch else 'Filled'} bars: measured here, {label}."


def _paint_groups(
    axes: Axes, bars: Sequence[Bar], groups: Sequence[str], levels: Sequence[object], series: Sequence[_Series]
) -> None:
    """Draw a group of bars for each backbone, or for each level where there is one backbone."""
    gap = 0.35 if len(levels) > 1 else 0.0
    width = 0.84 / (len(levels) * len(series) + gap * (len(levels) - 1))
    for number in range(len(bars)):
        group, level = divmod(number, len(levels))
        colour = _LEVELS[level % len(_LEVELS)]
        for index, one in enumerate(series):
            found = one.accuracies[number]
            if found is None:
                continue
            place = group - 0.42 + width * (level * (len(series) + gap) + index + 0.5)
            axes.bar(
                place,
                found.value,
                width * 0.88,
                facecolor="none" if one.is_open else colour,
                edgecolor=colour,
                hatch=one.hatch,
                linewidth=1.2,
            )
            if found.high > found.low:
                axes.errorbar(
                    place,
                    found.value,
                    yerr=[[found.value - found.low], [found.high - found.value]],
                    color=INK,
                    elinewidth=1.1,
                    capsize=min(2.5, width * 18),
                )
    axes.set_xticks(range(len(groups)), groups)
    axes.set_xlim(-0.55, len(groups) - 0.45)


def _legend(figure: Figure, bars: Sequence[Bar], series: Sequence[_Series], n_backbones: int) -> list[list[Patch]]:
    """Return what the colours mean, and what the fillings."""
    if n_backbones == 1:
        return [[_filled(one, _LEVELS[0]) for one in series]]
    points = {one.level: one.point for one in bars}
    levels = [
        Patch(color=_LEVELS[number % len(_LEVELS)], label=level_words(figure, one, points[one]))
        for number, one in enumerate(figure.levels)
    ]
    return [levels, [_filled(one, GREY) for one in series]]


def _filled(series: _Series, colour: str) -> Patch:
    face = "none" if series.is_open else colour
    return Patch(facecolor=face, edgecolor=colour, hatch=series.hatch, label=series.label)


def _in_rows(rows: Sequence[Sequence[Patch]]) -> tuple[list[Patch], int]:
    """Return what a legend shows row by row, in its own order, which is by column, and its number of columns."""
    columns = max(len(row) for row in rows)
    nothing = Patch(facecolor="none", edgecolor="none", label=" ")
    return [row[column] if column < len(row) else nothing for column in range(columns) for row in rows], columns


def _alt(bars: Sequence[Bar], series: Sequence[_Series]) -> str:
    said = [
        f"{bar.point.backbone} {bar.level}: "
        + ", ".join(f"{one.label} {found.value:.2f}" for one in series if (found := one.accuracies[number]) is not None)
        for number, bar in enumerate(bars)
    ]
    return f"Held-out test accuracies. {'; '.join(said)}."
