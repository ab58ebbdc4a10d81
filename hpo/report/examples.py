"""Small pictures of single images, from the dataset of this machine, as text that a page can hold."""

import base64
import io
from collections.abc import Iterable

from PIL import Image

from hpo.report.predictions import Predictions
from hpo.spec import StudySpec

_SIDE = 88
"""Of a picture, in pixels."""


def example_images(
    predictions: Predictions, names: Iterable[str], spec: StudySpec, data_dir: str | None
) -> dict[str, str]:
    """Return images as ``data:`` addresses of JPEGs of up to `_SIDE` pixels, by name.

    The held-out test images among them are those whose predictions the study has kept; no model looks at them here.
    Nothing is downloaded.

    Raises:
        InputError: The dataset is not on this machine, or is not what the study recorded.
    """
    from trainables.data.datasets import training_images
    from trainables.data.held_out import held_out_images

    read = held_out_images if predictions.split == "test" else training_images
    images = read(spec.data, data_dir, download=False)
    index = {name: number for number, name in enumerate(images.ids)}
    return {name: _address(images.read(index[name])) for name in names if name in index}


def _address(image: Image.Image) -> str:
    longest = max(image.size)
    if longest * 2 <= _SIDE:
        # Scans of 8 pixels are shown as they are, not as a blur.
        factor = _SIDE // longest
        image = image.resize((image.width * factor, image.height * factor), Image.Resampling.NEAREST)
    image.thumbnail((_SIDE, _SIDE))
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=82)
    return f"data:image/jpeg;base64,{base64.b64encode(buffer.getvalue()).decode()}"
