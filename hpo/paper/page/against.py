"""The question that the paper could not ask: a study of each backbone against the best of the paper's grid."""

from collections.abc import Sequence
from dataclasses import dataclass

from matplotlib.figure import Figure as Canvas
from matplotlib.lines import Line2D

from hpo.final.significance import difference_interval, wilson_interval
from hpo.paper.experiment import Experiment
from hpo.paper.measured import Best, Measured, StudyOutcome, best_of_grid, right
from hpo.paper.paired import Estimate, accuracy
from hpo.report.drawing import WIDE, Drawing, draw
from hpo.views.style import BLUE, GREY, INK, PAPER, grid
from hpo.views.summary import duration


@dataclass(frozen=True)
class Contest:
    """A backbone's study, and the best of its grid."""

    study: StudyOutcome
    study_accuracy: Estimate
    grid: Best | None
    """None: nothing of its grid was measured."""
    grid_accuracy: Estimate | None
    gain: tuple[float, float] | None
    """95 % interval of the study's accuracy minus the grid's, as of different images, which errs on the safe side."""
    published: float | None
    """The highest accuracy that the paper has of the backbone."""

    @property
    def cost(self) -> float | None:
        """The study's device time as a share of the grid's."""
        return (
            None if self.grid is None or not self.grid.gpu_seconds else self.study.gpu_seconds / self.grid.gpu_seconds
        )


def contests(experiment: Experiment, measured: Measured, studies: Sequence[StudyOutcome]) -> list[Contest]:
    """Return each study beside its backbone's grid, in the experiment's order."""
    order = {name: number for number, name in enumerate(experiment.backbones)}
    found = []
    for study in sorted(studies, key=lambda one: order.get(one.backbone, len(order))):
        best = best_of_grid(measured, study.backbone)
        table = None if best is None else right(best.cells)
        gain = None
        if table is not None:
            # Several seeds of the same images are as many images as one.
            known = (round(float(table.mean()) * table.shape[1]), table.shape[1])
            gain = difference_interval((study.right, study.total), known)
        own = Estimate(study.right / study.total, *wilson_interval(study.right, study.total), 1)
        accuracies = [
            bar.published
            for figure in experiment.figures
            for bar in experiment.bars(figure, [study.backbone])
            if bar.published is not None
        ]
        of_grid = None if table is None else accuracy(table)
        found.append(Contest(study, own, best, of_grid, gain, max(accuracies, default=None)))
    return found


def contest_drawing(found: Sequence[Contest]) -> Drawing:
    """Draw what studies reached beside the grids, and for which share of their time."""

    def paint(canvas: Canvas) -> None:
        reached, cost = canvas.subplots(1, 2, sharey=True, width_ratios=(3, 2))
        for row, one in enumerate(found):
            for estimate, shift, colour, marker in (
                (one.grid_accuracy, -0.14, GREY, "s"),
                (one.study_accuracy, 0.14, BLUE, "o"),
            ):
                if estimate is not None:
                    reached.plot([estimate.low, estimate.high], [row + shift] * 2, color=colour, linewidth=1.8)
                    reached.plot(estimate.value, row + shift, marker, ms=6.5, color=colour)
            if one.published is not None:
                reached.plot(one.published, row, "D", ms=5.5, mfc="none", mec=INK, mew=1.1)
            if one.cost is not None:
                cost.barh(row, one.cost, 0.5, color=BLUE)
                behind = {"facecolor": PAPER, "edgecolor": "none", "pad": 1.0}
                place = {"textcoords": "offset points", "va": "center", "bbox": behind}
                cost.annotate(f"{one.cost:.0%}", (one.cost, row), (5, 0), **place)
        reached.set_yticks(range(len(found)), [one.study.backbone for one in found])
        reached.set_ylim(len(found) - 0.4, -0.6)
        reached.set_xlabel("held-out test accuracy")
        cost.set_xlabel("study's device time, as a share of the grid's")
        cost.xaxis.set_major_formatter("{x:.0%}")
        cost.set_xlim(0, 1.18 * max(1.0, *(one.cost or 0.0 for one in found), 0.0))
        cost.axvline(1, color=GREY, linewidth=1)
        for axes in (reached, cost):
            axes.tick_params("y", length=0)
            grid(axes, "x")
        handles = [
            Line2D([], [], color=GREY, marker="s", ms=6.5, linewidth=1.8, label="best of the paper's grid"),
            Line2D([], [], color=BLUE, marker="o", ms=6.5, linewidth=1.8, label="study"),
            Line2D([], [], color="none", marker="D", ms=5.5, mfc="none", mec=INK, label="best published"),
        ]
        canvas.legend(handles=handles, loc="outside upper left", ncols=3)

    caption = (
        "Both choose their configuration on validation alone, are judged the sound way, and learn from the same images."
        " Lines are 95 % intervals. Right: what all trials of the study trained, without the retrain of the best, by"
        " what all runs of the backbone's grid trained."
    )
    said = "; ".join(
        f"{one.study.backbone}: study {one.study_accuracy.value:.3f}"
        + (f", grid {one.grid_accuracy.value:.3f}" if one.grid_accuracy else "")
        + (f", {duration(one.study.gpu_seconds)}, {one.cost:.0%} of the grid's" if one.cost is not None else "")
        for one in found
    )
    title = "Studies against the best of the grid"
    return draw("studies", title, caption, f"{title}. {said}.", paint, (WIDE, 1.5 + 0.5 * len(found)))
