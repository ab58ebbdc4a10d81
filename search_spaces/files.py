"""Where search spaces come from: the files of this package, and a user's own."""

import codecs
import tomllib
from importlib.resources import files
from pathlib import Path

from search_spaces.space import SearchSpace, SpaceError, from_dict

_MARKS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_OWN_FILES = frozenset({"simclr", "resnet18", "resnet50", "vgg", "inception", "vit", "swin"})
_TRAINABLES = frozenset({"simclr-pretrain"})
"""Trainables that have a file of their own, whatever the backbone."""


def builtin(backbone: str, weights: str) -> SearchSpace:
    """Return the search space that comes with a backbone: its own file, or ``default``; ``scratch`` without weights."""
    name = "scratch" if weights == "none" else backbone if backbone in _OWN_FILES else "default"
    return _own(name, "finetune")


def _own(name: str, trainable: str) -> SearchSpace:
    file = f"{name}.toml"
    text = files("search_spaces").joinpath(file).read_text(encoding="utf-8")
    return from_dict(tomllib.loads(text), f"search_spaces/{file}", trainable=trainable)


def for_study(backbone: str, weights: str, path: Path | None, trainable: str = "finetune") -> SearchSpace:
    """Return a study's search space: a user's file, laid over the backbone's or the trainable's own, or that alone.

    Raises:
        SpaceError: The file cannot be read or has mistakes, and the message lists them all; or there is none, and the
            trainable has no space of its own.
    """
    if trainable in _TRAINABLES:
        own: SearchSpace | None = _own(trainable, trainable)
    else:
        own = builtin(backbone, weights) if trainable == "finetune" else None
    if path is not None:
        return load(path, own, trainable)
    if own is None:
        raise SpaceError(f"--trainable {trainable}: has no search space of its own; give it one with --space FILE.")
    return own


def load(path: Path, base: SearchSpace | None, trainable: str = "finetune") -> SearchSpace:
    """Read a user's search space; `base` gives the parameters of a file that only enqueues.

    Raises:
        SpaceError: The file cannot be read or has mistakes; the message lists them all.
    """
    try:
        document = tomllib.loads(decoded(path.read_bytes()))
    except OSError as error:
        raise SpaceError(f"{path}: cannot be read ({error.strerror or error}); --space takes a TOML file.") from error
    except (UnicodeDecodeError, tomllib.TOMLDecodeError, RecursionError) as error:
        raise SpaceError(f"{path}: is not valid TOML ({error}).") from error
    return from_dict(document, str(path), base, trainable)


def decoded(text: bytes) -> str:
    """Return a text file's text: UTF-8, or what its byte-order mark says, as editors of Windows write it.

    Raises:
        UnicodeDecodeError: It is neither.
    """
    # The mark of UTF-32 begins with that of UTF-16.
    for mark, encoding in _MARKS:
        if text.startswith(mark):
            return text.decode(encoding)
    return text.decode()
