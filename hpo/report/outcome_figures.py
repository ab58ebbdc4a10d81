"""What a study's time went into, and what its model confuses, as figures."""

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from hpo.report.drawing import SIZE, WIDE, Drawing, draw
from hpo.report.predictions import Predictions
from hpo.report.search_figures import time_unit
from hpo.report.source import StudySource
from hpo.report.timeline import Lane, has_epoch_times
from hpo.views.confusion import paint_matrix, paint_pairs
from hpo.views.style import PAPER, STATES, grid

_MOST_LANES = 120
"""Rows of the Gantt chart that make it higher; more make them thinner."""
_MOST_COUNTS = 40
"""Classes whose counts stand in the confusion matrix."""


def time_drawing(source: StudySource, lanes: list[Lane]) -> Drawing:
    """Draw what ran where and when: a Gantt chart."""
    origin = min(one.start for lane in lanes for one in lane.stretches)
    end = max(one.end for lane in lanes for one in lane.stretches)
    unit, size = time_unit(end - origin)
    used = {one.state for lane in lanes for one in lane.stretches}

    def paint(figure: Figure) -> None:
        axes = figure.subplots()
        for row, lane in enumerate(lanes):
            for state in used:
                bars = [
                    ((one.start - origin) / size, (one.end - one.start) / size)
                    for one in lane.stretches
                    if one.state == state
                ]
                axes.broken_barh(bars, (row - 0.36, 0.72), facecolors=STATES[state], edgecolors=PAPER, linewidth=0.4)
            _number(axes, row, lane, origin, size, end - origin)
        firsts = [row for row, lane in enumerate(lanes) if row == 0 or _place(lane) != _place(lanes[row - 1])]
        axes.set_yticks(firsts, [_shortened(_place(lanes[row]), 40) for row in firsts])
        axes.tick_params("y", length=0, labelsize=8.5)
        axes.invert_yaxis()
        axes.set_xlim(0, (end - origin) / size)
        axes.set_xlabel(f"{unit} since the first epoch began")
        axes.spines["left"].set_visible(False)
        grid(axes, "x")
        figure.legend(
            handles=[Patch(color=STATES[state], label=state) for state in STATES if state in used],
            loc="outside upper left",
            ncols=4,
        )

    caption = "A row for each trial at a time of a machine's device; a bar is a trial while it trains."
    if not has_epoch_times(source.records):
        caption += (
            " Not all of its epochs have times: such a trial's bar reaches from its start to its end, waits included."
        )
    alt = f"When {len(source.records)} trials ran on {len(lanes)} places, over {(end - origin) / size:.1f} {unit}."
    height = 1.3 + max(0.12, min(0.5, 10 / len(lanes))) * min(len(lanes), _MOST_LANES)
    return draw("time", "Where the time went", caption, alt, paint, (WIDE, height))


def _place(lane: Lane) -> str:
    return f"{lane.host}\n{lane.device}"


def _number(axes: Axes, row: int, lane: Lane, origin: float, size: float, span: float) -> None:
    """Write a trial's number where its bar is wide enough."""
    for one in lane.stretches:
        if one.end - one.start > 0.03 * span:
            middle = ((one.start + one.end) / 2 - origin) / size
            axes.text(
                middle,
                row,
                str(one.trial),
                gid=f"number-{one.trial}-{row}",
                ha="center",
                va="center",
                color=PAPER,
                fontsize=8.5,
                weight="bold",
            )


def confusion_drawing(predictions: Predictions) -> Drawing:
    """Draw the confusion matrix, or of many classes the most confused pairs."""
    found = predictions.confusions
    right, images = int((found.true == found.predicted).sum()), len(found.true)
    of = f"{predictions.of[0].upper()}{predictions.of[1:]}: {right} of {images} right."
    if not found.is_matrix:
        caption = f"{of} The pairs of {len(found.classes)} classes that are confused most."
        size = (WIDE, 1.8 + 0.28 * max(found.bars, 1))

        def paint_worst(figure: Figure) -> None:
            paint_pairs(figure.subplots(), found)

        return draw("confusion", "The most confused pairs", caption, caption, paint_worst, size)
    is_large, has_counts = len(found.classes) > 16, len(found.classes) <= _MOST_COUNTS
    count_pt = None if not has_counts else 6.5 if is_large else 9

    def paint(figure: Figure) -> None:
        paint_matrix(figure.subplots(), found, 7.5 if is_large else 9.5, count_pt)

    caption = (
        f"{of} Blue: right; vermilion: confused; the shade is the square root of the share of the true class, so that"
        " single errors show."
    )
    alt = f"Confusion matrix of {len(found.classes)} classes: {right} of {images} images right."
    side = WIDE if is_large else SIZE[0]
    return draw("confusion", "Confusion matrix", caption, alt, paint, (side, side * 0.92))


def _shortened(name: str, longest: int) -> str:
    return name if len(name) <= longest else f"{name[: longest - 1]}…"
