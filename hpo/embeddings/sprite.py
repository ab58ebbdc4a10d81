"""Small pictures of many images in one, as a page holds them."""

import base64
import io
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

LARGEST_SIDE = 80
"""Of a picture, in pixels."""
_MOST_BYTES = 6 * 2**20
"""Of all pictures together; a page is at most a third larger, by base64, and has its data besides."""
_QUALITIES = (82, 65, 45, 25, 10)
_BLOCK = 16
"""JPEG's, at half resolution of colour: pictures of whole blocks do not bleed into each other."""


@dataclass(frozen=True)
class Sprite:
    """A picture with a picture in each of its cells, row by row."""

    address: str
    """A ``data:`` address of a JPEG."""
    side: int
    """Of a cell, in pixels."""
    columns: int


def sprite(pictures: Sequence[NDArray[np.uint8]]) -> Sprite:
    """Put pictures into one, at the best quality that keeps it below 6 MB.

    Args:
        pictures: (3, S, S) RGB each, at least one.
    """
    side = min(LARGEST_SIDE, math.ceil(pictures[0].shape[1] / _BLOCK) * _BLOCK)
    columns = math.ceil(math.sqrt(len(pictures)))
    sheet = Image.new("RGB", (columns * side, math.ceil(len(pictures) / columns) * side))
    for index, picture in enumerate(pictures):
        cell = Image.fromarray(np.ascontiguousarray(picture.transpose(1, 2, 0)))
        place = (index % columns * side, index // columns * side)
        sheet.paste(cell.resize((side, side), Image.Resampling.LANCZOS), place)
    for quality in _QUALITIES:
        buffer = io.BytesIO()
        sheet.save(buffer, "JPEG", quality=quality)
        if buffer.tell() <= _MOST_BYTES:
            break
    return Sprite(f"data:image/jpeg;base64,{base64.b64encode(buffer.getvalue()).decode()}", side, columns)
