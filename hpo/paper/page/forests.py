"""Differences with their intervals, a row each: those behind the verdicts, and those of an ablation."""

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass

from matplotlib.axes import Axes
from matplotlib.figure import Figure as Canvas
from matplotlib.lines import Line2D
from matplotlib.patches import Patch, Rectangle

from hpo.paper.ablation import Ablation
from hpo.paper.experiment import Claim, Protocol
from hpo.paper.page.wording import SWITCHES, switch_words
from hpo.paper.verdicts import VERDICTS, Comparison, Judgement, Verdict, described
from hpo.report.drawing import SIZE, WIDE, Drawing, draw
from hpo.views.style import BLUE, GREY, INK, MUTED, TEAL, VERMILION, grid

_LOOKS: dict[Verdict, tuple[str, str]] = {
    "confirmed": (TEAL, "o"),
    "contradicted": (VERMILION, "X"),
    "undecided": (GREY, "s"),
}
"""Colour and marker."""
_ROW = 0.27
"""Height of a row, in inches."""
_CLAIMED_ALPHA = 0.16
_LONGEST_LINE = 64


@dataclass(frozen=True)
class _Heading:
    """A row of words above the rows of a claim."""

    claim: Claim
    text: str
    rows: tuple[int, int]
    """The first and the last of its comparisons."""


def forest(judgement: Judgement) -> Drawing:
    """Draw the differences behind a verdict, with the range that the paper's claim gives them."""
    conclusion = judgement.conclusion
    headings, rows = _rows(judgement)
    used = [one for one in VERDICTS if judgement.having(one)]

    def paint(canvas: Canvas) -> None:
        axes = canvas.subplots()
        for row, one in rows:
            if one.measured is not None:
                colour, marker = _LOOKS[one.verdict]
                _paint_difference(axes, row, one.measured.value, one.measured.low, one.measured.high, colour, marker)
            if one.published is not None:
                axes.plot(one.published, row, "D", ms=5.5, mfc="none", mec=INK, mew=1.1, zorder=4)
        axes.axvline(0, color=MUTED, linewidth=0.9)
        low, high = axes.get_xlim()
        axes.set_xlim(max(-1, min(low, -0.06)), min(1, max(high, 0.06)))
        for heading in headings:
            _paint_claim(axes, heading)
        axes.set_yticks([row for row, _ in rows], [_label(one) for _, one in rows])
        axes.tick_params("y", length=0)
        last = max(row for row, _ in rows)
        axes.set_ylim(last + 0.7, min(one.rows[0] for one in headings) - 1.6)
        axes.set_xlabel("difference of held-out accuracies")
        axes.spines["left"].set_visible(False)
        grid(axes, "x")
        canvas.legend(handles=_legend(used), loc="outside lower left", ncols=3, handletextpad=0.4, columnspacing=1.2)

    caption = (
        "A row is the first accuracy minus the second, on the same test images, with its 95 % interval; shaded is where"
        " the claim puts it. Verdicts allow for the number of rows (Holm)."
    )
    if judgement.missing:
        caption += " In brackets: not measured."
    said = "; ".join(_in_words(one) for _, one in rows)
    n_rows = max(row for row, _ in rows) + 2
    name = f"verdict-{conclusion.id}"
    title = f"{conclusion.text.rstrip('.')}: {judgement.verdict}"
    return draw(name, title, caption, f"{conclusion.text} {said}.", paint, (SIZE[0], 1.35 + _ROW * n_rows))


def _rows(judgement: Judgement) -> tuple[list[_Heading], list[tuple[int, Comparison]]]:
    """Return the claims and their comparisons, each comparison with the row that it has from the top."""
    headings, rows, row = [], [], 0
    for claim in judgement.conclusion.tests:
        of_claim = [one for one in judgement.comparisons if one.claim == claim]
        text = textwrap.fill(claim.text, _LONGEST_LINE)
        row += 1 + text.count("\n")
        headings.append(_Heading(claim, text, (row, row + len(of_claim) - 1)))
        rows += list(enumerate(of_claim, row))
        row += len(of_claim)
    return headings, rows


def _paint_difference(axes: Axes, row: int, value: float, low: float, high: float, colour: str, marker: str) -> None:
    axes.plot([low, high], [row, row], color=colour, linewidth=1.8, solid_capstyle="butt", zorder=3)
    axes.plot(value, row, marker, ms=6.5, color=colour, zorder=5)


def _paint_claim(axes: Axes, heading: _Heading) -> None:
    """Shade where a claim puts the differences of its rows, and write it above them."""
    left, right = axes.get_xlim()
    low = heading.claim.above if heading.claim.above is not None else left
    high = heading.claim.below if heading.claim.below is not None else right
    low, high = max(low, left), min(high, right)
    first, last = heading.rows
    axes.add_patch(
        Rectangle(
            (low, first - 0.48), high - low, last - first + 0.96, facecolor=BLUE, alpha=_CLAIMED_ALPHA, linewidth=0
        )
    )
    place = axes.get_yaxis_transform()
    axes.text(0, first - 0.62, heading.text, transform=place, fontsize=9, va="bottom", color=INK, style="italic")


def _label(comparison: Comparison) -> str:
    return comparison.backbone if comparison.measured is not None else f"({comparison.backbone})"


def _legend(used: Sequence[Verdict]) -> list[Line2D | Patch]:
    verdicts = [
        Line2D([], [], color=_LOOKS[one][0], marker=_LOOKS[one][1], ms=6.5, linewidth=1.8, label=one) for one in used
    ]
    published = Line2D([], [], color="none", marker="D", ms=5.5, mfc="none", mec=INK, label="published")
    return [*verdicts, published, Patch(facecolor=BLUE, alpha=_CLAIMED_ALPHA, label="claimed")]


def _in_words(comparison: Comparison) -> str:
    found = comparison.measured
    said = comparison.missing if found is None else f"{found.value:+.3f}, {found.low:+.3f} to {found.high:+.3f}"
    return f"{comparison.backbone}: {said} ({comparison.verdict})"


def ablation_drawing(ablation: Ablation) -> Drawing:
    """Draw what flipping each switch of a protocol changes."""
    labels = [flip_words(one.switches, ablation.base, one.protocol) for one in ablation.flips]

    def paint(canvas: Canvas) -> None:
        axes = canvas.subplots()
        for row, one in enumerate(ablation.flips):
            is_known = one.gain.low > 0 or one.gain.high < 0
            _paint_difference(
                axes,
                row,
                one.gain.value,
                one.gain.low,
                one.gain.high,
                BLUE if is_known else GREY,
                "o" if is_known else "s",
            )
        axes.axvline(0, color=MUTED, linewidth=0.9)
        axes.set_yticks(range(len(labels)), labels)
        axes.tick_params("y", length=0)
        axes.set_ylim(len(labels) - 0.4, -0.6)
        axes.set_xlabel("change of the held-out test accuracy")
        axes.spines["left"].set_visible(False)
        grid(axes, "x")

    base = ", ".join(f"{SWITCHES[name][0]}: {switch_words(name, value)}" for name, value in ablation.base)
    seeds = f"{ablation.accuracy.n_seeds} seed{'s' * (ablation.accuracy.n_seeds != 1)}"
    caption = (
        f"{described(ablation.point)}; {seeds}. Each row changes what it says of this protocol, whose accuracy is"
        f" {ablation.accuracy.value:.3f}: {base}. Lines are 95 % intervals of the paired difference; grey squares: it"
        " may be 0."
    )
    said = "; ".join(
        f"{label}: {one.gain.value:+.3f}".replace("\n", " ") for label, one in zip(labels, ablation.flips, strict=True)
    )
    name = f"ablation-{ablation.point.backbone}-{ablation.point.freeze_mode}-{ablation_digits(ablation)}"
    title = f"What each switch changes: {ablation.point.backbone}"
    return draw(
        name,
        title,
        caption,
        f"{title}. {said}.",
        paint,
        (WIDE, 1.2 + 0.24 * sum(2 + label.count("\n") for label in labels)),
    )


def ablation_digits(ablation: Ablation) -> str:
    """Return what tells the names of two ablations of a backbone apart."""
    point = ablation.point
    return f"{point.learning_rate:g}-{point.batch_size}-{point.epochs}".replace(".", "_").replace("+", "")


def flip_words(switches: Sequence[str], base: Protocol, protocol: Protocol) -> str:
    """Return what is changed, a line each."""
    if len(switches) > 1:
        if len(switches) == len(SWITCHES):
            return "all of them"
        return "\n".join(SWITCHES[one][0] for one in switches)
    (name,) = switches
    before, after = (switch_words(name, getattr(one, name)) for one in (base, protocol))
    return f"{SWITCHES[name][0]}:\n{before} \N{RIGHTWARDS ARROW} {after}"
