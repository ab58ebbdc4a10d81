"""A report as files: the page, its figures, its tables."""

import base64
import hashlib
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from hpo.report.drawing import Drawing, css_variables
from hpo.report.facts import Tile, made_at
from hpo.report.tables import Table

PAGE = "report.html"
_FOLDERS = ("figures", "tables")
_SPACES = "\n\N{NO-BREAK SPACE}"


@dataclass(frozen=True)
class Example:
    """A confused pair with its pictures."""

    text: str
    pictures: tuple[tuple[str, str], ...]
    """(name, ``data:`` address) of each."""


@dataclass(frozen=True)
class Section:
    """A part of a page: sentences, then facts, figures and tables, whichever it has."""

    id: str
    title: str
    sentences: Sequence[str] = ()
    tiles: Sequence[Tile] = ()
    facts: Sequence[tuple[str, str]] = ()
    drawings: Sequence[Drawing] = ()
    tables: Sequence[Table] = ()
    examples: Sequence[Example] = ()


def write(folder: Path, title: str, subtitle: str, sections: Sequence[Section], data: Sequence[Table]) -> Path:
    """Write a report and return its page; one of an earlier time in `folder` is replaced, once this one is whole.

    Args:
        folder: Where it goes; other files there are left alone.
        title: Of the page.
        subtitle: The line below.
        sections: What it shows.
        data: Tables for CSV files alone.
    """
    fresh = folder / ".report-new"
    shutil.rmtree(fresh, ignore_errors=True)
    try:
        for name in _FOLDERS:
            (fresh / name).mkdir(parents=True)
        for drawing in (one for section in sections for one in section.drawings):
            (fresh / "figures" / f"{drawing.name}.svg").write_text(drawing.svg, encoding="utf-8", errors="replace")
            (fresh / "figures" / f"{drawing.name}.png").write_bytes(drawing.png)
        for table in (*(one for section in sections for one in section.tables), *data):
            if table.rows:
                (fresh / "tables" / f"{table.name}.csv").write_text(table.csv, encoding="utf-8", errors="replace")
        (fresh / PAGE).write_text(render(title, subtitle, sections), encoding="utf-8", errors="replace")
        for name in _FOLDERS:
            shutil.rmtree(folder / name, ignore_errors=True)
            (fresh / name).rename(folder / name)
        (fresh / PAGE).replace(folder / PAGE)
    finally:
        shutil.rmtree(fresh, ignore_errors=True)
    return folder / PAGE


def render(title: str, subtitle: str, sections: Sequence[Section]) -> str:
    """Return the page, which asks the network for nothing and allows itself no script but its own."""
    environment = Environment(
        loader=PackageLoader("hpo.report", "template"),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=_printable,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    script = _part(environment, "page.js")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    return environment.get_template("page.html").render(
        title=title,
        subtitle=subtitle,
        sections=sections,
        made=made_at(),
        light=Markup(css_variables(0)),
        dark=Markup(css_variables(1)),
        style=Markup(_part(environment, "page.css")),
        script=Markup(script),
        script_sha256=digest,
        inline=Markup,
        with_code=_with_code,
    )


def _part(environment: Environment, name: str) -> str:
    assert environment.loader is not None
    return environment.loader.get_source(environment, name)[0]


def _with_code(sentence: str) -> Markup:
    """Show what stands between backquotes as code."""
    pieces = str(_printable(sentence)).split("`")
    return Markup("").join(
        Markup("<code>{}</code>").format(one) if index % 2 else one for index, one in enumerate(pieces)
    )


def _printable(value: object) -> object:
    """Show what cannot be printed, such as a control character in a file's name, as a replacement character."""
    if not isinstance(value, str) or isinstance(value, Markup):
        return value
    return "".join(one if one.isprintable() or one in _SPACES else "\N{REPLACEMENT CHARACTER}" for one in value)
