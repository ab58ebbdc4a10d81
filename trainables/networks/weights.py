"""Weights files: read without running their code, and matched key for key with torchvision's architecture."""

import functools
import itertools
import re
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file as load_safetensors
from torch import Tensor, nn

from trainables.checkpoints import state_dicts
from trainables.checkpoints.layouts import (
    Layout,
    described_resnet,
    in_torchvisions_names,
    recognise,
    without_wrappers,
)
from trainables.checkpoints.reader import read_checkpoint
from trainables.checkpoints.torch_records import WeightsFileError, shown
from trainables.errors import InputError
from trainables.vision import interpolate_embeddings

StateDict = dict[str, Tensor]

_SHOWN = 4
_DROPPED = {"neck", "head", "data_preprocessor", "target_generator"}
"""What OpenMMLab's checkpoints hold beside ``backbone.``: the projection head of the pretraining and its input."""


def is_safetensors(path: Path) -> bool:
    """Return whether a file is one of safetensors, whatever its name.

    Raises:
        OSError: The file cannot be read.
    """
    with path.open("rb") as file:
        # The length of a JSON header, in 8 bytes, and the header (https://github.com/huggingface/safetensors#format).
        return file.read(9)[8:] == b"{"


def file_and_key(spec: str) -> tuple[Path, str | None]:
    """Split ``FILE#KEY`` into an absolute path and the state dict that is meant; None: the file names no key.

    A file whose name has a ``#`` is one: the longest part of `spec` that names a file is the file.
    """
    parts = spec.split("#")
    for count in range(len(parts), 0, -1):
        path = Path("#".join(parts[:count])).expanduser().absolute()
        if path.is_file():
            return path, "#".join(parts[count:]) or None
    return Path(spec).expanduser().absolute(), None


def load_file(path: Path, key: str | None = None, own: Collection[str] = ()) -> StateDict:
    """Read a weights file, whatever its name, without running any code in it, and in torchvision's names.

    A ResNet in one of `layouts.LAYOUTS` is renamed. Of any other network the wrappers' prefixes are taken off, such as
    ``module.``, and ``backbone.`` (OpenMMLab's, beside ``neck.``). What else a file holds beside its tensors is left
    alone.

    Args:
        path: The file.
        key: Which of its state dicts is meant; see `state_dicts.choose`.
        own: A network's names; where the file has all of them as they are, nothing is renamed.

    Returns:
        float32 for what the file has in half precision; the values are shared by all calls.

    Raises:
        InputError: The file is missing, damaged, or has no such state dict; the message says what it is.
    """
    with _told(path):
        state, layout = _load_file(path, key, path.stat().st_mtime_ns)
        if own and all(name in state for name in own):
            return dict(state)
        return in_torchvisions_names(state, layout) if layout is not None else _unprefixed(without_wrappers(state))


def layout_of(path: Path, key: str | None = None) -> Layout | None:
    """Return how a file's ResNet is named, from its names alone; None: it holds no ResNet that is known.

    Raises:
        InputError: The file is missing or damaged, or it is open which of its state dicts is meant.
    """
    with _told(path):
        if is_safetensors(path):
            _check_keyless(key)
            with safe_open(path, "pt") as file:
                return recognise(file.keys())
        return state_dicts.choose(read_checkpoint(path).content, key, settled=False)[1]


@contextmanager
def _told(path: Path) -> Iterator[None]:
    """Turn what is wrong with a file into one line that names it."""
    try:
        yield
    except FileNotFoundError as error:
        raise InputError(f"--weights {path}: there is no such file.") from error
    except SafetensorError as error:
        raise InputError(
            f"--weights {path}: the file is damaged or was cut short ({error}); bring or download it again."
        ) from error
    except OSError as error:
        raise InputError(f"--weights {path}: the file cannot be read ({error.strerror}).") from error
    except WeightsFileError as error:
        raise InputError(f"--weights {path}: {error}.") from error


@functools.lru_cache(maxsize=2)
def _load_file(path: Path, key: str | None, _modified_ns: int) -> tuple[StateDict, Layout | None]:
    if is_safetensors(path):
        _check_keyless(key)
        half = (torch.float16, torch.bfloat16)
        state = {name: one.float() if one.dtype in half else one for name, one in load_safetensors(path).items()}
        return state, recognise(state)
    checkpoint = read_checkpoint(path)
    stored, layout = state_dicts.choose(checkpoint.content, key, settled=True)
    return checkpoint.tensors(stored), layout


def _check_keyless(key: str | None) -> None:
    if key is not None:
        raise WeightsFileError(f"a safetensors file holds one state dict, and none under {shown(key)}")


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
    if not any(key in expected for key in state):
        first, *others = itertools.islice(expected, 10)
        prefixes = (key.removesuffix(first) for key in state if key.endswith(f".{first}"))
        prefix = next((one for one in prefixes if all(f"{one}{key}" in state for key in others)), None)
        raise InputError(
            f"--weights {spec} does not fit the backbone{_resnet_in(state)}: none of its {len(state)} tensors has a"
            f" name of it; they are {_names(state)}, where {_names(expected)} are expected"
            f"{f'; without the prefix {shown(prefix)} they would be' if prefix else ''}."
        )
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
        f"{len(keys)} {what}: {_names(keys)}"
        for what, keys in (("missing", missing), ("unexpected", unexpected), ("wrongly shaped", reshaped))
        if keys
    ]
    if problems:
        raise InputError(f"--weights {spec} does not fit the backbone{_resnet_in(state)}: {'; '.join(problems)}.")
    fitting = {key: value for key, value in state.items() if key in expected and value.shape == expected[key].shape}
    model.load_state_dict({**expected, **fitting})


def _resnet_in(state: StateDict) -> str:
    found = described_resnet({name: tuple(value.shape) for name, value in state.items()})
    return f" (the file holds {found})" if found else ""


def _names(keys: Collection[str]) -> str:
    first = ", ".join(shown(key) for key in itertools.islice(keys, _SHOWN))
    return f"{first}, ..." if len(keys) > _SHOWN else first


def _unprefixed(state: StateDict) -> StateDict:
    """Leave of a network that is no ResNet what lies under ``backbone.``, where there is such a part."""
    if not any(name.startswith("backbone.") for name in state):
        return state
    strange = {name: value for name, value in state.items() if name.partition(".")[0] not in {*_DROPPED, "backbone"}}
    projection = re.compile(r"fc\.\d+\.")
    encoder = {name.removeprefix("backbone."): value for name, value in state.items() if name.startswith("backbone.")}
    return {name: value for name, value in encoder.items() if not projection.match(name)} | strange


def _resized_positions(model: nn.Module, expected: StateDict, state: StateDict) -> StateDict:
    """Interpolate a ViT's position embeddings to the model's image size (Dosovitskiy et al. 2021, section 3.2)."""
    key = "encoder.pos_embedding"
    if key not in expected or key not in state or state[key].shape == expected[key].shape:
        return state
    if state[key].ndim != 3 or state[key].shape[2] != expected[key].shape[2]:
        return state
    resized = interpolate_embeddings(model.image_size, model.patch_size, dict(state))
    return dict(resized)
