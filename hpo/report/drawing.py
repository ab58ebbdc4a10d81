"""A figure as SVG, for the page and as a file, and as PNG.

A figure is drawn once. In the page its colours become CSS variables, so that it follows the reader's colour scheme; the
files keep the light ones.
"""

import io
import re
from collections.abc import Callable
from dataclasses import dataclass

from markupsafe import escape
from matplotlib.figure import Figure
from matplotlib.text import Text

from hpo.views.lettering import DEFAULT, lettering
from hpo.views.style import BLUE, BROWN, INK, OCHRE, PALETTE, PURPLE, TEAL, VERMILION, styled

SEVERAL = (BLUE, VERMILION, TEAL, PURPLE, OCHRE, BROWN, INK)
"""Of studies that stand beside each other."""

SIZE = (5.4, 3.75)
"""Of a figure, in inches: two fit beside each other on a page, and one on a telephone with legible text."""
WIDE = 9.6
"""Width of a figure that has a row of the page to itself, in inches."""

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
    with styled([DEFAULT]):
        figure = Figure(figsize=size, layout="constrained")
        paint(figure)
        # A name in another script; where no font here has it, the reader's browser may have one.
        texts = [one for one in figure.findobj(Text) if isinstance(one, Text)]
        families = lettering([one.get_text() for one in texts]).families
        for one in texts if len(families) > 1 else ():
            one.set_fontfamily(list(families))
        # The layout is the same for both files, and takes as long as the drawing. With an engine of whatever kind each
        # file would draw twice.
        figure.draw_without_rendering()
        figure.set_layout_engine(None)
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
