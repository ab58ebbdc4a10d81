"""Weights for a backbone: published ones and files, matched key for key with torchvision's architecture."""

import functools
import pickle
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file as load_safetensors
from torch import Tensor, nn
from torchvision.models import get_model_weights
from torchvision.models.vision_transformer import interpolate_embeddings

from trainables.config import PAPER_BACKBONES, data_root
from trainables.errors import InputError
from trainables.networks.fetch import extract_member, fetch

StateDict = dict[str, Tensor]

FILE_SUFFIXES = (".pth", ".pt", ".safetensors", ".tar", ".ckpt")
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


@dataclass(frozen=True)
class PublishedWeights:
    """Weights with a stable public address that torchvision does not carry."""

    name: str
    architecture: str
    url: str
    filename: str
    sha256_prefix: str | None
    """As far as the publisher gives it; None: not at all."""
    member: str | None = None
    """The file inside, where `filename` is a zip."""


PUBLISHED = {
    weights.name: weights
    for weights in (
        # OpenMMLab, SimCLR ResNet-50, ImageNet at 224 px, 800 epochs in batches of 4,096: 69.20 % top-1 by a linear
        # probe. Their file names end with the first digits of the file's SHA-256.
        PublishedWeights(
            name="simclr-imagenet",
            architecture="resnet50",
            url="https://download.openmmlab.com/mmselfsup/1.x/simclr/simclr_resnet50_16xb256-coslr-800e_in1k/"
            "simclr_resnet50_16xb256-coslr-800e_in1k_20220825-85fcc4de.pth",
            filename="simclr_resnet50_16xb256-coslr-800e_in1k_20220825-85fcc4de.pth",
            sha256_prefix="85fcc4de",
        ),
        # The checkpoint of Jimenez & Hale (2023), by sthalles/SimCLR: STL-10 at 96 px, 50 epochs.
        PublishedWeights(
            name="simclr-stl10",
            architecture="resnet50",
            url="https://drive.usercontent.google.com/download"
            "?id=1ByTKAUsdm_X7tLcii6oAEl5qFRqRMZSu&export=download&confirm=t",
            filename="resnet50_50-epochs_stl10.zip",
            sha256_prefix=None,
            member="checkpoint_0040.pth.tar",
        ),
    )
}
SIMCLR_DEFAULT = "simclr-imagenet"
"""800 epochs on ImageNet at the size that fine-tuning uses; the paper's own encoder saw small STL-10 images for 50."""


def is_file_spec(spec: str) -> bool:
    """Return whether a ``--weights`` value means a file."""
    return spec.endswith(FILE_SUFFIXES) or "/" in spec


def load_weights(architecture: str, backbone: str, spec: str, data_dir: str | None) -> StateDict:
    """Return the state dict that `spec` names, its keys as torchvision's architecture has them.

    Args:
        architecture: torchvision's name of the network; empty for a user's own.
        backbone: The backbone as the user named it.
        spec: ``default``, a published name, one of torchvision's weights' names, or a file's path.
        data_dir: Where published weights are kept.

    Raises:
        InputError: There are no such weights, or they cannot be fetched or read.
    """
    if is_file_spec(spec):
        return load_file(Path(spec).expanduser())
    name = SIMCLR_DEFAULT if backbone == "simclr" and spec == "default" else spec
    if name in PUBLISHED:
        return _published(PUBLISHED[name], architecture, data_dir)
    names = get_model_weights(architecture).__members__ if architecture else {}
    wanted = "DEFAULT" if name == "default" else name
    if wanted not in names:
        raise InputError(
            f"--weights {spec}: no such file, and {backbone} has no weights of that name;"
            f" known are default, none, {', '.join([*names, *_published_for(architecture)])}, or a file's path."
        )
    chosen = names[wanted]
    digest = re.search(r"-([0-9a-f]{8,})\.pth$", chosen.url)
    path = _fetched(chosen.url, data_dir, chosen.url.rpartition("/")[2], digest and digest[1])
    return load_file(path)


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
        state: What `load_weights` gave; left as it is.
        spec: The user's word for it, for the error.
        optional: Modules that are thrown away after this: their keys may be missing or of another shape.

    Raises:
        InputError: Keys are missing, unexpected, or of another shape; the message names them.
    """
    expected = model.state_dict()
    state = _resized_positions(model, expected, state)
    thrown_away = {key for key in (*expected, *state) if key.startswith(tuple(f"{name}." for name in optional))}
    # Weights from before torch 0.4.1 do not count batches; the count decides nothing.
    missing = [
        key
        for key in expected
        if key not in state and key not in thrown_away and not key.endswith("num_batches_tracked")
    ]
    unexpected = [key for key in state if key not in expected and key not in thrown_away]
    reshaped = [
        f"{key} {tuple(state[key].shape)} instead of {tuple(expected[key].shape)}"
        for key in state
        if key in expected and key not in thrown_away and state[key].shape != expected[key].shape
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


def _published(weights: PublishedWeights, architecture: str, data_dir: str | None) -> StateDict:
    if weights.architecture != architecture:
        raise InputError(
            f"--weights {weights.name} are of a {weights.architecture}, this backbone is a {architecture or 'user'}'s."
        )
    path = _fetched(weights.url, data_dir, weights.filename, weights.sha256_prefix)
    if weights.member is not None:
        path = extract_member(path, weights.member, path.with_name(f"{weights.name}.pth"))
    return load_file(path)


def _fetched(url: str, data_dir: str | None, filename: str, digest: str | None) -> Path:
    path = data_root(data_dir) / "weights" / filename
    try:
        return fetch(url, path, digest)
    except InputError as error:
        raise InputError(f"{error}. Bring the file yourself: to {path}, or anywhere with --weights PATH.") from error


def _published_for(architecture: str) -> list[str]:
    return [weights.name for weights in PUBLISHED.values() if weights.architecture == architecture]


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


def known_architecture(backbone: str) -> str:
    """Return torchvision's name for one of the paper's backbones or ``torchvision:NAME``; empty for a user's own."""
    if backbone.startswith("torchvision:"):
        return backbone.partition(":")[2]
    return PAPER_BACKBONES.get(backbone, "")
