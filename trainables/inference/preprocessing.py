"""What happens to an image before the network sees it, as data that any program can read."""

import dataclasses
import json
from typing import Any

from pydantic import TypeAdapter, ValidationError

from trainables.config import Exif, Geometry
from trainables.errors import InputError


@dataclasses.dataclass(frozen=True, kw_only=True)
class Preprocessing:
    """The way from an image file to a network's input, and the names of its outputs."""

    exif: Exif
    """``turn``: an image is turned upright, as its EXIF orientation says; ``ignore``: it is not."""
    geometry: Geometry
    """How the RGB image is resized, cut and normalised; its values are divided by 255 before."""
    classes: tuple[str, ...]
    """The name of each output."""

    def to_json(self) -> str:
        """Return it as one flat JSON object."""
        flat = {"exif": self.exif, **dataclasses.asdict(self.geometry), "classes": self.classes}
        return json.dumps(flat, indent=2, ensure_ascii=False) + "\n"


def from_json(text: str, where: str) -> Preprocessing:
    """Read what `Preprocessing.to_json` wrote; `where` it was read leads the error's message.

    Raises:
        InputError: It is something else.
    """
    try:
        flat: dict[str, Any] = dict(json.loads(text))
        exif = TypeAdapter(Exif).validate_python(flat.pop("exif"))
        classes = TypeAdapter(tuple[str, ...]).validate_python(flat.pop("classes"))
        geometry = TypeAdapter(Geometry).validate_python(flat)
    except (ValidationError, ValueError, TypeError, KeyError) as error:
        reason = " ".join(str(error).split())[:200]
        raise InputError(f"{where}: this is not the preprocessing of a model ({reason}).") from error
    return Preprocessing(exif=exif, geometry=geometry, classes=classes)
