"""Markdown that shows names and values as they are, whatever is in them."""

import re
from collections.abc import Iterable
from typing import Any

_LONGEST = 300
"""Characters of a value in a table."""

_SIGNS = re.compile(r"[\\`*_{}\[\]<>#|~$&]")
"""What Markdown, or HTML in it, gives a meaning."""


def plain(text: str) -> str:
    """Return text that Markdown shows as it is: names and messages come from people, and may hold anything.

    Code in backquotes stays code.
    """
    pieces = re.split(r"(`[^`\n|<>]+`)", text.replace("\n", " "))
    # Every second piece is code.
    escaped = [piece if index % 2 else _SIGNS.sub(r"\\\g<0>", piece) for index, piece in enumerate(pieces)]
    return "".join(escaped)


def table(heads: tuple[str, str], rows: Iterable[tuple[str, Any]]) -> str:
    """Return a table of two columns."""
    lines = [f"| {heads[0]} | {heads[1]} |", "|---|---|"]
    return "\n".join([*lines, *(f"| {plain(name)} | {plain(in_words(value))} |" for name, value in rows)])


def in_words(value: Any) -> str:
    """Return a value for people: 0.00012, ``low 0.1, high 1``, ``a, b``."""
    if isinstance(value, dict):
        text = ", ".join(f"{name} {in_words(one)}" for name, one in value.items())
    elif isinstance(value, list | tuple):
        text = ", ".join(in_words(one) for one in value) or "none"
    elif isinstance(value, float):
        text = f"{value:.5g}"
    else:
        text = {True: "yes", False: "no"}[value] if isinstance(value, bool) else str(value)
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}..."
