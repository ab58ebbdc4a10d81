"""Which images are meant: files, folders, lists of either, and images in memory."""

import logging
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from trainables.data.folders import images_below, readable_name
from trainables.errors import InputError

if TYPE_CHECKING:
    from PIL.Image import Image

logger = logging.getLogger(__name__)

STDIN = "-"


@dataclass(frozen=True)
class Source:
    """An image that was asked about."""

    name: str
    """Its path as it was given or found; of an image in memory, its number."""
    image: "Path | Image | None"
    """None: there is none."""
    error: str | None = None
    """Why there is none."""


def named_images(names: Iterable[str], listed: BinaryIO) -> Iterator[str]:
    """Yield names of files and folders; in place of ``-`` those on the lines of `listed`, as they arrive."""
    for name in names:
        if name != STDIN:
            yield name
            continue
        for line in listed:
            if path := line.rstrip(b"\r\n"):
                yield os.fsdecode(path)


def sources(images: "Iterable[str | Path | Image]") -> Iterator[Source]:
    """Yield what is meant by files, folders and images in memory, in their order.

    A folder means all images in it and in the folders below it, found as a dataset's images are. A file that is named
    is taken whatever its suffix. What cannot be read has an `error`, and stops nothing.
    """
    for index, image in enumerate(images):
        if not isinstance(image, str | Path):
            yield Source(str(index), image)
        elif (path := Path(image).expanduser()).is_dir():
            yield from _in_folder(path)
        else:
            yield Source(readable_name(str(image)), path)


def _in_folder(folder: Path) -> Iterator[Source]:
    name = readable_name(str(folder))
    try:
        found, left_out, dangling = images_below(folder)
    except InputError as error:
        yield Source(name, None, str(error))
        return
    others = ", ".join(f"{count} {what}" for what, count in left_out.items())
    if not found and not dangling:
        yield Source(name, None, f"{name} holds no images" + (f" (left out: {others})." if others else "."))
    elif others:
        logger.info("%s: left out: %s", name, others)
    for path in found:
        yield Source(readable_name(str(path)), path)
    for path in dangling:
        yield Source(readable_name(str(path)), None, f"{readable_name(str(path))} is a link to what is not there.")
