"""What a final model says of images: the likeliest class and the next four."""

import itertools
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from joblib import cpu_count

from hpo.models.folder import FinalModel, read_model
from hpo.models.images import Source, sources
from trainables.errors import InputError
from trainables.inference.preprocessing import Preprocessing

if TYPE_CHECKING:
    from PIL.Image import Image

TOP = 5
"""Classes that are said of an image."""
_BATCH = 64
"""Images that are on the device at a time, as in the evaluation of a trial."""


@dataclass(frozen=True)
class Prediction:
    """What a model says of one image."""

    image: str
    """Its path as it was given or found; of an image in memory, its number."""
    ranking: tuple[tuple[str, float], ...]
    """Up to five classes with their probabilities, in [0, 1], the likeliest first; empty where there is an `error`."""
    error: str | None = None
    """Why the image cannot be read; None: it was."""

    @property
    def label(self) -> str | None:
        """The likeliest class; None: the image cannot be read."""
        return self.ranking[0][0] if self.ranking else None


def predict(model: FinalModel | Path | str, images: "Iterable[str | Path | Image]") -> list[Prediction]:
    """Classify images, on a GPU where there is one.

    An image that cannot be read gets an `error` and stops nothing.

    Args:
        model: A final model, its folder, or its ``model.safetensors``.
        images: Files, folders (all images in them and below) and Pillow's images, of any size and mode; they are
            prepared as the study's images were.

    Returns:
        A prediction for each image, in their order, those of a folder in the order of their names.

    Raises:
        InputError: The model's files are missing, damaged, or of another network.
    """
    found = model if isinstance(model, FinalModel) else read_model(Path(model))
    return list(predictions(found, sources(images)))


def predictions(model: FinalModel, images: Iterable[Source]) -> Iterator[Prediction]:
    """Yield a prediction for each image, in their order; the next are decoded while the network looks at some.

    Raises:
        InputError: The model's files are damaged or of another network.
    """
    from trainables.inference.predictor import Predictor, load_predictor, probabilities

    def said(predictor: Predictor, batch: list[tuple[Source, "Future[np.ndarray | str]"]]) -> Iterator[Prediction]:
        decoded = [(source, future.result()) for source, future in batch]
        pixels = [one for _, one in decoded if isinstance(one, np.ndarray)]
        rows = iter(probabilities(predictor, np.stack(pixels)) if pixels else ())
        for source, one in decoded:
            if isinstance(one, str):
                yield Prediction(source.name, (), one)
            else:
                yield Prediction(source.name, _ranking(next(rows), model.preprocessing.classes))

    predictor = load_predictor(model.weights, model.spec.model, model.preprocessing)
    remaining = iter(images)
    with ThreadPoolExecutor(cpu_count()) as pool:
        ahead: list[tuple[Source, Future[np.ndarray | str]]] = []
        while batch := list(itertools.islice(remaining, _BATCH)):
            begun = [(source, pool.submit(_pixels, source, model.preprocessing)) for source in batch]
            yield from said(predictor, ahead)
            ahead = begun
        yield from said(predictor, ahead)


def _pixels(source: Source, preprocessing: Preprocessing) -> np.ndarray | str:
    """Return an image's pixels as the study's trials got theirs, (3, crop, crop) uint8, or why there are none."""
    from trainables.data.decoding import decode
    from trainables.data.transforms import shrink

    if source.image is None:
        return source.error or "there is no image"
    try:
        return shrink(decode(source.image, preprocessing.exif), preprocessing.geometry)
    except InputError as error:
        return str(error)
    except (MemoryError, ValueError) as error:
        # A strip of one pixel becomes very long when its short side is brought to the network's size.
        return f"{source.name} cannot be resized ({error or 'it needs too much memory'})."


def _ranking(row: np.ndarray, classes: tuple[str, ...]) -> tuple[tuple[str, float], ...]:
    return tuple((classes[index], float(row[index])) for index in np.argsort(-row, kind="stable")[:TOP])
