"""How every picture looks: one palette, in light and dark, and one set of matplotlib's settings."""

import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Literal

from matplotlib import rc_context
from matplotlib.axes import Axes

PALETTE = {
    "ink": ("#1b1f24", "#e6e9ed"),
    "muted": ("#57606a", "#9ea7b3"),
    "grid": ("#dfe3e8", "#343c46"),
    "blue": ("#0b65b0", "#5aa9ec"),
    "grey": ("#6b737c", "#8b95a1"),
    "vermilion": ("#c23b0a", "#ff8f66"),
    "ochre": ("#9a6700", "#e3b341"),
    "teal": ("#00796d", "#46c8b5"),
    "purple": ("#8a4593", "#d6a3de"),
    "brown": ("#6b4b2a", "#c9a27c"),
    "paper": ("#ffffff", "#161b21"),
}
"""Name: (light, dark). The hues are Okabe & Ito's (2008), which the colour-blind can tell apart; every one has a
contrast of 3 or more with the page, and what is written in ink or muted one of 4.5 or more."""

INK, MUTED, GRID, BLUE, GREY, VERMILION, OCHRE, TEAL, PURPLE, BROWN, PAPER = (light for light, _ in PALETTE.values())
STATES = {"PRUNED": GREY, "COMPLETE": BLUE, "RUNNING": OCHRE, "FAIL": VERMILION}
MARKERS = {"PRUNED": "x", "COMPLETE": "o", "RUNNING": "^", "FAIL": "s"}

_SETTINGS: Any = {
    "svg.fonttype": "none",
    "svg.hashsalt": "hpo",
    "text.parse_math": False,
    "font.size": 10.5,
    "axes.titlesize": 11,
    "axes.labelsize": 10.5,
    "xtick.labelsize": 9.5,
    "ytick.labelsize": 9.5,
    "legend.fontsize": 9.5,
    "legend.frameon": False,
    "text.color": INK,
    "axes.labelcolor": INK,
    "axes.titlecolor": INK,
    "axes.edgecolor": GREY,
    "xtick.color": GREY,
    "ytick.color": GREY,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "axes.facecolor": "none",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "grid.color": GRID,
    "grid.linewidth": 0.8,
    "axes.formatter.useoffset": False,
    # A browser's own font is a little larger than the one that was laid out.
    "figure.constrained_layout.w_pad": 0.1,
    "figure.constrained_layout.h_pad": 0.07,
}


@contextmanager
def styled(families: Sequence[str]) -> Iterator[None]:
    """Let matplotlib draw in this style, with fonts of `families`, and say nothing."""
    with warnings.catch_warnings(), rc_context({**_SETTINGS, "font.family": list(families)}):
        # Of glyphs and layouts: for programmers.
        warnings.simplefilter("ignore")
        yield


def grid(axes: Axes, axis: Literal["both", "x", "y"] = "both") -> None:
    """Draw a grid below what the axes show."""
    axes.grid(axis=axis)


def legend_below(axes: Axes, columns: int = 3) -> None:
    """Explain what the axes show below them, where the legend hides nothing."""
    axes.legend(
        loc="upper center", bbox_to_anchor=(0.5, -0.16), ncols=columns, handletextpad=0.4, columnspacing=1.2
    )  # fmt: skip
