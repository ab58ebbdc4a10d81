"""Text in any script, as matplotlib can draw it: with fonts that have its characters, found through fontconfig."""

import functools
import shutil
import subprocess
import unicodedata
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from matplotlib.font_manager import fontManager, get_font

DEFAULT = "DejaVu Sans"
"""matplotlib brings it; Latin, Greek, Cyrillic, much of Arabic, symbols."""
_MOST_SEARCHES = 24
"""Calls of `fc-match` for a picture, 10 to 50 ms each: one finds a script's font, or that there is none."""
_FONTCONFIG_S = 10


@dataclass(frozen=True)
class Lettering:
    """The fonts of a picture, and what they can draw."""

    families: tuple[str, ...]
    """For matplotlib's ``font.family``: a character is drawn with the first that has it."""
    characters: frozenset[str]

    def drawable(self, text: str) -> str:
        """Return `text` in one line, without what would be drawn as an empty box."""
        kept = ("".join(one if one in self.characters else " " if one.isspace() else "" for one in text)).split()
        return " ".join(kept)


@dataclass(frozen=True)
class Labels:
    """Short names of things that have long or foreign ones."""

    texts: tuple[str, ...]
    numbered: tuple[int, ...]
    """Those whose label begins with their number, since it is not the whole name or is another's too."""


def lettering(texts: Sequence[str]) -> Lettering:
    """Find fonts for all characters of `texts`, as far as this machine has them."""
    families, known = [DEFAULT], _characters(fontManager.findfont(DEFAULT))
    searches = 0
    for one in sorted(set("".join(texts)) - known):
        # A font that an earlier character found may have this one, too. Controls and spaces are in none.
        if one in known or unicodedata.category(one)[0] in "CZ" or searches == _MOST_SEARCHES:
            continue
        searches += 1
        path = _font_with(one)
        if path is not None and one in _characters(path):
            fontManager.addfont(path)
            families.append(get_font(path).family_name)
            known |= _characters(path)
    return Lettering(tuple(families), known)


def labels(names: Sequence[str], numbers: Sequence[int], letters: Lettering, longest: int) -> Labels:
    """Return a label of at most `longest` characters, and its number, for each of `names`."""
    short = [_shortened(letters.drawable(name), longest) for name in names]
    whole = [letters.drawable(name) == " ".join(name.split()) for name in names]
    times = Counter(short)
    numbered = [not ok or times[text] > 1 or not text for text, ok in zip(short, whole, strict=True)]
    texts = [
        f"#{number} {text}".rstrip() if marked else text
        for number, text, marked in zip(numbers, short, numbered, strict=True)
    ]
    return Labels(tuple(texts), tuple(number for number, marked in zip(numbers, numbered, strict=True) if marked))


def _shortened(text: str, longest: int) -> str:
    return text if len(text) <= longest else f"{text[: longest - 1]}…"


@functools.cache
def _characters(path: str) -> frozenset[str]:
    """Return what a font can draw; nothing, if its pictures have fixed sizes or it cannot be read."""
    try:
        font = get_font(path)
    except (OSError, RuntimeError):
        return frozenset()
    return frozenset(map(chr, font.get_charmap())) if font.scalable else frozenset()


@functools.cache
def _font_with(character: str) -> str | None:
    """Return the file of fontconfig's best font for a character; None: there is no fontconfig, or no font."""
    program = shutil.which("fc-match")
    if program is None:
        return None
    pattern = f"sans:scalable=true:color=false:charset={ord(character):x}"
    try:
        found = subprocess.run(
            [program, "--format=%{file}", pattern], capture_output=True, timeout=_FONTCONFIG_S, check=True, text=True
        )
    except (OSError, subprocess.SubprocessError, UnicodeDecodeError):
        return None
    return found.stdout or None
