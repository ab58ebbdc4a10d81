"""Weights files: read without running their code, and matched key for key with torchvision's architecture."""

import functools
import itertools
import re
from collections.abc import Collection
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load_file as load_safetensors
from torch import Tensor, nn

from trainables.errors import InputError
from trainables.networks.checkpoint_reader import Checkpoint, read_checkpoint
from trainables.networks.torch_records import WeightsFileError, described, entries, is_tensor, shown
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


def load_file(path: Path) -> StateDict:
    """Read a weights file, whatever its name, without running any code in it, and unwrap the layouts that are known.

    Known are a plain state dict or a whole pickled module, one under ``state_dict`` or ``model``, the prefix
    ``module.`` of parallel training, and ``backbone.`` of sthalles/SimCLR (projection under ``backbone.fc.``) and
    OpenMMLab (beside ``neck.``). What else a file holds beside its tensors is left alone.

    Raises:
        InputError: The file is missing, damaged, or has no state dict; the message says what it is.
    """
    if not path.is_file():
        raise InputError(f"--weights {path}: there is no such file.")
    return _load_file(path, path.stat().st_mtime_ns)


@functools.lru_cache(maxsize=2)
def _load_file(path: Path, _modified_ns: int) -> StateDict:
    try:
        state = dict(load_safetensors(path)) if is_safetensors(path) else _state_dict(read_checkpoint(path))
    except SafetensorError as error:
        raise InputError(
            f"--weights {path}: the file is damaged or was cut short ({error}); bring or download it again."
        ) from error
    except OSError as error:
        raise InputError(f"--weights {path}: the file cannot be read ({error.strerror}).") from error
    except WeightsFileError as error:
        raise InputError(f"--weights {path}: {error}.") from error
    return _unprefixed(state)


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
            f"--weights {spec} does not fit the backbone: none of its {len(state)} tensors has a name of it; they are"
            f" {_names(state)}, where {_names(expected)} are expected"
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
        raise InputError(f"--weights {spec} does not fit the backbone: {'; '.join(problems)}.")
    fitting = {key: value for key, value in state.items() if key in expected and value.shape == expected[key].shape}
    model.load_state_dict({**expected, **fitting})


def _names(keys: Collection[str]) -> str:
    first = ", ".join(shown(key) for key in itertools.islice(keys, _SHOWN))
    return f"{first}, ..." if len(keys) > _SHOWN else first


def _state_dict(checkpoint: Checkpoint) -> StateDict:
    """Find the names with tensors: the file itself, or what it has under one of the usual keys."""
    state = entries(checkpoint.content)
    for key in ("state_dict", "model"):
        inner = entries(state.get(key)) if state is not None else None
        state = inner if inner is not None else state
    if not state or not all(is_tensor(value) for value in state.values()):
        raise WeightsFileError(
            f"the file holds no state dict (names with tensors), itself or under state_dict or model; it holds"
            f" {described(checkpoint.content)}{_remedy(checkpoint.content)}"
        )
    return checkpoint.tensors(state)


def _remedy(content: object) -> str:
    """Return how to write the weights alone, where a file has them under another name."""
    for key, value in (entries(content) or {}).items():
        inner = entries(value)
        if inner and all(is_tensor(one) for one in inner.values()):
            return f"; write one of them alone: torch.save(torch.load(FILE)[{shown(key)!r}], 'weights.pth')"
    return ""


def _unprefixed(state: StateDict) -> StateDict:
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
