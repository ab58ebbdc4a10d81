"""Weights files: read without running their code, and matched key for key with torchvision's architecture."""

import functools
import pickle
import re
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file as load_safetensors
from torch import Tensor, nn
from torchvision.models.vision_transformer import interpolate_embeddings

from trainables.errors import InputError

StateDict = dict[str, Tensor]

_SHOWN = 5
_DAMAGED = (
    SafetensorError,
    RuntimeError,
    EOFError,
    ValueError,
    LookupError,
    AttributeError,
    TypeError,
    AssertionError,
    OSError,
)
"""What torch's and safetensors' readers raise on bytes that are no weights."""
_DROPPED = {"neck", "head", "data_preprocessor", "target_generator"}
"""What OpenMMLab's checkpoints hold beside ``backbone.``: the projection head of the pretraining and its input."""


def load_file(path: Path) -> StateDict:
    """Read a weights file without running any code in it, and unwrap the layouts that are known.

    Known are a plain state dict, one under ``state_dict`` or ``model``, the prefix ``module.`` of parallel training,
    and ``backbone.`` of sthalles/SimCLR (projection under ``backbone.fc.``) and OpenMMLab (beside ``neck.``).

    Raises:
        InputError: The file is missing, damaged, holds anything but tensors and plain values, or has no state dict.
    """
    if not path.is_file():
        raise InputError(f"--weights {path}: there is no such file.")
    return _load_file(path, path.stat().st_mtime_ns)


@functools.lru_cache(maxsize=2)
def _load_file(path: Path, _modified_ns: int) -> StateDict:
    try:
        if path.suffix == ".safetensors":
            return dict(load_safetensors(path))
        content = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise InputError(
            f"--weights {path}: refused, for reading it would run code that it carries, or it is damaged;"
            " only files of plain tensors are read."
        ) from error
    except _DAMAGED as error:
        raise InputError(f"--weights {path}: the file is damaged or holds no weights ({_line(error)}).") from error
    return _unwrap(content, path)


def fit(model: nn.Module, state: StateDict, spec: str, optional: tuple[str, ...]) -> None:
    """Load `state` into `model`, every key of it.

    Args:
        model: The whole network as published, auxiliary classifiers included.
        state: What `load_file` gave; left as it is.
        spec: The user's word for it, for the error.
        optional: Modules that are dropped after this: their keys may be missing or of another shape.

    Raises:
        InputError: Keys are missing, unexpected, or of another shape; the message names them.
    """
    expected = model.state_dict()
    state = _resized_positions(model, expected, state)
    dropped = {key for key in (*expected, *state) if key.startswith(tuple(f"{name}." for name in optional))}
    # Weights from before torch 0.4.1 do not count batches; the count decides nothing.
    missing = [
        key for key in expected if key not in state and key not in dropped and not key.endswith("num_batches_tracked")
    ]
    unexpected = [key for key in state if key not in expected and key not in dropped]
    reshaped = [
        f"{key} {tuple(state[key].shape)} instead of {tuple(expected[key].shape)}"
        for key in state
        if key in expected and key not in dropped and state[key].shape != expected[key].shape
    ]
    problems = [
        f"{len(keys)} {what}: {', '.join(keys[:_SHOWN])}{', ...' if len(keys) > _SHOWN else ''}"
        for what, keys in (("missing", missing), ("unexpected", unexpected), ("wrongly shaped", reshaped))
        if keys
    ]
    if problems:
        raise InputError(f"--weights {spec} does not fit the backbone: {'; '.join(problems)}.")
    fitting = {key: value for key, value in state.items() if key in expected and value.shape == expected[key].shape}
    model.load_state_dict({**expected, **fitting})


def _unwrap(content: object, path: Path) -> StateDict:
    state = content
    for key in ("state_dict", "model"):
        if isinstance(state, Mapping) and isinstance(state.get(key), Mapping):
            state = state[key]
    tensors = isinstance(state, Mapping) and all(
        isinstance(key, str) and isinstance(value, Tensor) for key, value in state.items()
    )
    if not isinstance(state, Mapping) or not state or not tensors:
        raise InputError(f"--weights {path}: the file holds no state dict (names with tensors).")
    plain = {key.removeprefix("module."): value for key, value in state.items()}
    if not any(key.startswith("backbone.") for key in plain):
        return plain
    encoder = {key.removeprefix("backbone."): value for key, value in plain.items() if key.startswith("backbone.")}
    others = {key: value for key, value in plain.items() if not key.startswith("backbone.")}
    strange = {key: value for key, value in others.items() if key.partition(".")[0] not in _DROPPED}
    projection = re.compile(r"fc\.\d+\.")
    return {key: value for key, value in encoder.items() if not projection.match(key)} | strange


def _resized_positions(model: nn.Module, expected: StateDict, state: StateDict) -> StateDict:
    """Interpolate a ViT's position embeddings to the model's image size (Dosovitskiy et al. 2021, section 3.2)."""
    key = "encoder.pos_embedding"
    if key not in expected or key not in state or state[key].shape == expected[key].shape:
        return state
    if state[key].ndim != 3 or state[key].shape[2] != expected[key].shape[2]:
        return state
    resized = interpolate_embeddings(model.image_size, model.patch_size, dict(state))
    return dict(resized)


def _line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
