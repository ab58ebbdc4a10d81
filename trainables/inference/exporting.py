"""A final model in other formats, each in one file that carries its preprocessing, for batches of any size.

The network takes (B, 3, crop, crop) float32 images, named ``images``, normalised as `Preprocessing` says, and gives
(B, classes) ``logits``.
"""

import importlib.util
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from trainables.config import ModelFormat
from trainables.data.transforms import normalise
from trainables.errors import InputError
from trainables.inference.predictor import Predictor, probabilities

SUFFIXES: dict[ModelFormat, str] = {"onnx": ".onnx", "torchscript": ".pt", "torch-export": ".pt2"}
PREPROCESSING_KEY = "preprocessing.json"
"""Under which a file carries its preprocessing: ONNX's metadata, an extra file of the other two."""

_ONNX_PACKAGES = ("onnx", "onnxscript", "onnxruntime")
_EXAMPLES = 2
"""Images that are followed through the network; torch takes a batch of one for fixed."""


def check_packages(form: ModelFormat) -> None:
    """See that the packages that write and check a format are there.

    Raises:
        InputError: They are not; the message says how to bring them.
    """
    missing = [name for name in _ONNX_PACKAGES if importlib.util.find_spec(name) is None]
    if form == "onnx" and missing:
        raise InputError(
            f"--model onnx needs {', '.join(missing)}; `pip install -e '.[onnx]'` in hpo's folder brings them."
        )


def export(predictor: Predictor, form: ModelFormat, path: Path, pixels: np.ndarray) -> None:
    """Write a predictor's network, which is on the CPU, to a file.

    Args:
        predictor: The network.
        form: The file's format.
        path: The file; it ends as `SUFFIXES` says.
        pixels: (B, 3, crop, crop) uint8 images, at least two: these are followed through the network.

    Raises:
        InputError: The network cannot be followed, or is too large for the format.
        OSError: The file cannot be written.
    """
    write = {"onnx": _onnx, "torchscript": _torchscript, "torch-export": _torch_export}[form]
    images = normalise(torch.from_numpy(pixels[:_EXAMPLES]), predictor.preprocessing.geometry)
    try:
        with torch.no_grad():
            write(predictor, images, path)
    except OSError:
        raise
    except Exception as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
        raise InputError(
            f"--model {form}: this network cannot be written so ({reason}); try another format."
        ) from error


def difference(predictor: Predictor, form: ModelFormat, path: Path, pixels: np.ndarray) -> float:
    """Return by how much a file's probabilities differ from the network's own, at most.

    Args:
        predictor: The network that the file was made of.
        form: The file's format.
        path: The file.
        pixels: (B, 3, crop, crop) uint8 images, at least four: they are passed in batches of one, two and the rest.
    """
    run = {"onnx": _open_onnx, "torchscript": _open_torchscript, "torch-export": _open_torch_export}[form](path)
    images = normalise(torch.from_numpy(pixels), predictor.preprocessing.geometry)
    with torch.inference_mode():
        logits = torch.cat([run(images[:1]), run(images[1:3]), run(images[3:])])
        found = logits.softmax(dim=1).numpy()
    return float(np.abs(found - probabilities(predictor, pixels)).max())


def _onnx(predictor: Predictor, images: Tensor, path: Path) -> None:
    program = torch.onnx.export(
        predictor.model,
        (images,),
        input_names=["images"],
        output_names=["logits"],
        dynamic_shapes=({0: torch.export.Dim("batch")},),
        dynamo=True,
        verbose=False,
    )
    assert program is not None
    program.model.metadata_props[PREPROCESSING_KEY] = predictor.preprocessing.to_json()
    # A file beside it for the values would be lost with the first copy.
    program.save(path, external_data=False)


def _open_onnx(path: Path) -> Callable[[Tensor], Tensor]:
    import onnxruntime

    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    return lambda images: torch.from_numpy(session.run(["logits"], {"images": images.numpy()})[0])


def _torchscript(predictor: Predictor, images: Tensor, path: Path) -> None:
    with warnings.catch_warnings():
        # torch calls TorchScript deprecated, and a trace's own look at what depends on values is repeated by ours.
        warnings.simplefilter("ignore")
        traced = torch.jit.trace(predictor.model, images, check_trace=False)  # type: ignore[no-untyped-call]
        torch.jit.save(traced, path, _extra_files={PREPROCESSING_KEY: predictor.preprocessing.to_json()})


def _open_torchscript(path: Path) -> Callable[[Tensor], Tensor]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        loaded: Callable[[Tensor], Tensor] = torch.jit.load(path)  # type: ignore[no-untyped-call]
    return loaded


def _torch_export(predictor: Predictor, images: Tensor, path: Path) -> None:
    program = torch.export.export(
        predictor.model, (images,), dynamic_shapes=({0: torch.export.Dim("batch")},), strict=False
    )
    torch.export.save(program, path, extra_files={PREPROCESSING_KEY: predictor.preprocessing.to_json()})


def _open_torch_export(path: Path) -> Callable[[Tensor], Tensor]:
    loaded: Callable[[Tensor], Tensor] = torch.export.load(path).module()
    return loaded
