"""A study's final model as a file for other programs, left only after it was checked on real images."""

import dataclasses
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from hpo.errors import HpoError
from hpo.models.folder import FinalModel
from trainables.config import DataConfig, Geometry, ModelFormat

_CHECKED = 16
"""Images on which a file is compared with the model."""
_ALLOWED = 1e-4
"""How far probabilities may differ: the order of float32's sums is another in each runtime, which was measured to cost
1e-6 or less (docs/predict.md)."""


@dataclass(frozen=True)
class Exported:
    """A model's file, checked."""

    path: Path
    difference: float
    """The largest difference between its probabilities and the model's."""
    images: int
    """How many images were compared."""

    def __str__(self) -> str:
        return (
            f"probabilities differ from the model's by at most {self.difference:.2g} on {self.images} training images"
        )


def export_model(
    model: FinalModel, form: ModelFormat, output: Path | None = None, data_dir: str | None = None
) -> Exported:
    """Write a final model in another format, and compare it with the model on images that the study trained on.

    Args:
        model: The model.
        form: ``onnx``, ``torchscript`` or ``torch-export``.
        output: The file; None: ``model`` with the format's suffix, beside the model's own.
        data_dir: Where the study's dataset lies; None: this machine's data folder.

    Raises:
        InputError: A package or the dataset is missing, or the network cannot be written so; no file is left.
        HpoError: The file's probabilities differ from the model's, or it cannot be written; no file is left.
    """
    from trainables.inference.exporting import SUFFIXES, check_packages, difference, export
    from trainables.inference.predictor import load_predictor

    check_packages(form)
    path = (output or model.weights.with_suffix(SUFFIXES[form])).expanduser()
    if not path.parent.is_dir():
        raise HpoError(f"{path}: cannot be written (there is no folder {path.parent}).")
    pixels = _images(model.spec.data, model.preprocessing.geometry, data_dir)
    predictor = load_predictor(model.weights, model.spec.model, model.preprocessing, device="cpu")
    partial = path.with_name(f".partial-{path.stem}{SUFFIXES[form]}")
    try:
        export(predictor, form, partial, pixels)
        apart = difference(predictor, form, partial, pixels)
        if not apart <= _ALLOWED:
            raise HpoError(
                f"--model {form}: the file's probabilities differ from the model's by up to {apart:.2g}"
                f" ({_ALLOWED:g} is allowed), so none was left; try another format."
            )
        partial.replace(path)
    except OSError as error:
        raise HpoError(f"{path}: cannot be written ({error.strerror or error}).") from error
    finally:
        partial.unlink(missing_ok=True)
    return Exported(path, apart, len(pixels))


def _images(data: DataConfig, geometry: Geometry, data_dir: str | None) -> np.ndarray:
    """Return images of the training split, of as many classes as may be, (N, 3, crop, crop) uint8."""
    from trainables.data.datasets import training_images
    from trainables.data.transforms import shrink

    # Any images like the study's will do; it is no matter if some were added since.
    images = training_images(dataclasses.replace(data, train_sha256=None), data_dir)
    chosen = np.unique(np.linspace(0, len(images.ids) - 1, _CHECKED).astype(int)).tolist()
    return np.stack([shrink(images.read(index), geometry) for index in (chosen * 4)[: max(4, len(chosen))]])
