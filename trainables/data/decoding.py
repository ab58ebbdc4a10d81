"""From an image file to RGB pixels, upright, and what Pillow has to say about the file."""

import logging
import struct
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path

import numpy as np
from PIL import ExifTags, Image, UnidentifiedImageError

from trainables.config import Exif
from trainables.data.folders import readable_name
from trainables.errors import InputError

_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""What undoes each EXIF orientation. `PIL.ImageOps.exif_transpose` also writes the other tags anew, and raises where
one of them is damaged."""
_DAMAGED = (
    *(OSError, EOFError, MemoryError, SyntaxError, ValueError, LookupError, ArithmeticError, TypeError, AttributeError),
    *(NotImplementedError, struct.error, Image.DecompressionBombError),
)
"""What Pillow raises for files that are damaged, too large, or of a kind that it does not know."""

_reading = threading.local()
"""Has the ``path`` that its thread is decoding."""


def decode(source: Path | Image.Image, exif: Exif = "ignore") -> Image.Image:
    """Decode an image as RGB, turned upright by its EXIF orientation, or not, as in torchvision's ImageFolder.

    Of an animation the first frame is taken; transparency is dropped; 16 bits become 8. Pillow turns TIFF files in any
    case.

    Args:
        source: A file, or an image that is open, and stays so.
        exif: What is done with its orientation.

    Raises:
        InputError: The file is missing, too large, or no image that can be read.
    """
    path = source if isinstance(source, Path) else Path(getattr(source, "filename", "") or "an image in memory")
    _reading.path = path
    try:
        with Image.open(source) if isinstance(source, Path) else nullcontext(source) as image:
            return _as_rgb(image, exif)
    except _DAMAGED as error:
        name = readable_name(str(path))
        raise InputError(f"{name} cannot be read as an image ({_reason(path, error)}); fix or remove it.") from error


def _as_rgb(image: Image.Image, exif: Exif) -> Image.Image:
    if image.mode in ("I", "F"):
        raise ValueError(f"mode {image.mode}: pixels of 32 bits have no known range")
    if image.mode.startswith("I;16"):
        pixels = Image.fromarray((np.asarray(image) // 257).astype(np.uint8)).convert("RGB")
    else:
        pixels = image.convert("RGB")
    turn = _UPRIGHT.get(_orientation(image)) if exif == "turn" else None
    return pixels if turn is None else pixels.transpose(turn)


def _reason(path: Path, error: BaseException) -> str:
    """Return why a file cannot be read: what it is instead of an image, where that can be seen."""
    if isinstance(error, UnidentifiedImageError):
        with path.open("rb") as file:
            start = file.read(64).lstrip().lower()
        kinds = {b"version https://git-lfs": "a Git LFS pointer; `git lfs pull` fetches it", b"<": "a web page or XML"}
        found = [kind for beginning, kind in kinds.items() if start.startswith(beginning)]
        return found[0] if found else "of no known format" if start else "empty"
    return getattr(error, "strerror", None) or str(error) or type(error).__name__


def _orientation(image: Image.Image) -> int:
    """Return the EXIF orientation, 1 to 8; 1 where there is none or it cannot be read."""
    try:
        orientation = image.getexif().get(ExifTags.Base.Orientation)
    except _DAMAGED:
        return 1
    return orientation if isinstance(orientation, int) else 1


@contextmanager
def pillow_warnings() -> Iterator[list[str]]:
    """Gather what Pillow warns of and logs while files are decoded, in whichever thread, as ``FILE: WORDS``."""
    gathered: list[str] = []

    def gather(words: object) -> None:
        gathered.append(f"{readable_name(str(getattr(_reading, 'path', '-')))}: {words}")

    handler, log = logging.Handler(logging.WARNING), logging.getLogger("PIL")
    handler.emit = lambda record: gather(record.getMessage())  # type: ignore[method-assign]
    propagate = log.propagate
    with warnings.catch_warnings():
        show = warnings.showwarning

        def sort_out(message: Warning | str, category: type[Warning], filename: str, *place: object) -> None:
            if "PIL" in Path(filename).parts:
                gather(message)
            else:
                show(message, category, filename, *place)  # type: ignore[arg-type]

        warnings.showwarning = sort_out  # type: ignore[assignment]
        warnings.filterwarnings("always", module=r"PIL\.")
        log.addHandler(handler)
        log.propagate = False
        try:
            yield gathered
        finally:
            log.removeHandler(handler)
            log.propagate = propagate
