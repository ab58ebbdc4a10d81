"""How figures look: one palette for light and dark pages, and a figure as SVG and PNG.

A figure is drawn once. In the page its colours become CSS variables, so that it follows the reader's colour scheme; the
files keep the light ones.
"""

import io
import re
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import matplotlib
from markupsafe import escape
from matplotlib.axes import Axes
from matplotlib.figure import Figure

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
SEVERAL = (BLUE, VERMILION, TEAL, PURPLE, OCHRE, BROWN, INK)
"""Of studies that stand beside each other."""

SIZE = (6.2, 4.1)
"""Of a figure, in inches: two fit beside each other on a page, and one on a telephone with legible text."""
WIDE = 9.6
"""Width of a figure that has a row of the page to itself, in inches."""

_STYLE: Any = {
    "svg.fonttype": "none",
    "svg.hashsalt": "hpo",
    "text.parse_math": False,
    "font.family": ["DejaVu Sans"],
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
}
_PNG_DPI = 130


@dataclass(frozen=True)
class Drawing:
    """A figure, ready for the page and for files."""

    name: str
    """Of its files, without a suffix."""
    title: str
    caption: str
    """What it shows, and how it is to be read."""
    alt: str
    """The same for who cannot see it: what it shows, in numbers where there are some."""
    svg: str
    """An SVG document with light colours on white."""
    inline: str
    """The same for an HTML page: colours are variables, and no id occurs in another figure."""
    png: bytes
    is_wide: bool = False


def draw(
    name: str, title: str, caption: str, alt: str, paint: Callable[[Figure], None], size: tuple[float, float] = SIZE
) -> Drawing:
    """Draw a figure.

    Args:
        name: Of its files.
        title: Its heading in the page.
        caption: What it shows.
        alt: A description in words.
        paint: Draws into an empty figure.
        size: Width and height, in inches.
    """
    with matplotlib.rc_context(_STYLE), warnings.catch_warnings():
        # Names in other scripts: the browser has a font for them; the PNG shows boxes.
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")
        figure = Figure(figsize=size, layout="constrained")
        paint(figure)
        # The layout is the same for both files, and takes as long as the drawing.
        figure.draw_without_rendering()
        figure.set_layout_engine("none")
        vector, pixels = io.StringIO(), io.BytesIO()
        figure.savefig(vector, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
        figure.savefig(pixels, format="png", dpi=_PNG_DPI, facecolor="white")
    svg = vector.getvalue()
    root = re.search(r"<svg[^>]*>", svg)
    assert root is not None
    white = f"{svg[: root.end()]}\n <rect width='100%' height='100%' fill='white'/>{svg[root.end() :]}"
    is_wide = size[0] > SIZE[0]
    return Drawing(
        name, title, caption, alt, white, _inline(svg[root.start() :], name, alt), pixels.getvalue(), is_wide
    )


def grid(axes: Axes, axis: str = "both") -> None:
    """Draw a grid below what the axes show."""
    axes.grid(axis=axis)  # type: ignore[arg-type] # a literal


def css_variables(scheme: int) -> str:
    """Return the palette as CSS: 0 for light, 1 for dark."""
    return " ".join(f"--{name}: {colours[scheme]};" for name, colours in PALETTE.items())


def _inline(svg: str, name: str, alt: str) -> str:
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    svg = re.sub(r'\bid="', f'id="{name}-', svg)
    svg = re.sub(r'(xlink:href="|url\()#', rf"\g<1>#{name}-", svg)
    for colour, (light, _) in PALETTE.items():
        svg = re.sub(rf"(?<=[:=][ \"]){light}", f"var(--{colour})", svg)
    return svg.replace("<svg ", f'<svg role="img" aria-label="{escape(alt)}" ', 1)
