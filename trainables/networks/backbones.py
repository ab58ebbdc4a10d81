"""The networks that a trial can train: torchvision's classification models, or a user's own, with a fresh head.

A torchvision model keeps its own layout, and the head takes the place of its final layer, so that a trained network's
state dict loads into torchvision's model without any of this code.
"""

import copy
import dataclasses
import functools
import hashlib
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import nn

from trainables.config import ModelConfig
from trainables.errors import InputError
from trainables.networks.heads import PAPER_LOGITS, new_head
from trainables.networks.identity import architecture_of, geometry_of, user_module, weights_of
from trainables.networks.published import is_file_spec
from trainables.networks.small_stem import PREFIX, get_model, is_small, resnets, torchvisions_name
from trainables.networks.stages import last_stage, owns
from trainables.networks.weights import fit, load_file

_AUXILIARY = ("AuxLogits", "aux1", "aux2")
"""Inception's and GoogLeNet's extra classifiers: in the published files, but no part of a fine-tuned network."""


@dataclass(frozen=True)
class Network:
    """A backbone with its head."""

    model: nn.Module
    """(B, 3, S, S) float32 -> (B, classes) logits."""
    head_path: str
    """The module that trains when the backbone is frozen."""
    last_stage: tuple[str, ...]
    """The modules that train besides in freeze mode ``partial``."""
    pretrained_sha256: str | None = None
    """Digest of the values that weights gave to a published network, without those that the head replaces; None for a
    random network and for a user's own."""
    random_layer: str | None = None
    """The head ``paper``'s layer of 1,000 outputs, where weights do not set it; None: they do, or there is none."""


@dataclass(frozen=True)
class _Pretrained:
    """A published network as its weights leave it, kept by the process and copied for each trial."""

    model: nn.Module
    has_final_layer: bool
    """Whether the weights hold the final layer; if not, its values are random."""
    sha256: str


def build(config: ModelConfig, classes: int, *, data_dir: str | None, seed: int) -> Network:
    """Build a network with its weights and a fresh head for `classes` classes.

    Everything that the weights do not set is initialised from `seed`; torch's global random state is left alone.

    Raises:
        InputError: The backbone, its weights or its image size cannot be used.
    """
    architecture = architecture_of(config.backbone)
    with torch.random.fork_rng(devices=[]):
        origin = None
        if architecture and config.weights != "none":
            # Loaded once for all trials of this process.
            origin = _pretrained(architecture, config, data_dir)
        torch.manual_seed(seed)
        if not architecture:
            return _user_network(config, classes, data_dir)
        model = copy.deepcopy(origin.model) if origin is not None else _published_model(architecture, config)
        slot = _slot(model)
        if origin is not None and not origin.has_final_layer:
            for module in model.get_submodule(slot).modules():
                if isinstance(module, nn.Linear | nn.Conv2d):
                    module.reset_parameters()
        for name in _AUXILIARY:
            if hasattr(model, name):
                setattr(model, name, None)
        if hasattr(model, "aux_logits"):
            setattr(model, "aux_logits", False)  # noqa: B010 - a plain attribute, which Module hides from type checkers
        head_path = _replace(model, slot, config, classes)
    stage = last_stage(architecture, model, slot)
    training = (*stage, f"{slot}.0") if config.head == "paper" else stage
    is_random = config.head == "paper" and (origin is None or not origin.has_final_layer)
    return Network(
        model,
        head_path,
        training,
        origin.sha256 if origin is not None else None,
        f"{slot}.0" if is_random else None,
    )


def check(config: ModelConfig, data_dir: str | None) -> Network:
    """Build `config` once and pass blank images through it, so that a mistake shows before a study exists.

    Returns:
        The network, without values.

    Raises:
        InputError: The backbone, its weights or its image size cannot be used.
    """
    if config.image_size is not None and config.image_size < 1:
        raise InputError(f"--image-size must be at least 1, but is {config.image_size}.")
    network = build(config, 2, data_dir=data_dir, seed=0)
    size = geometry_of(config).crop
    try:
        # On the meta device torch computes batch norm in Python, and imports its compiler for it: seconds.
        with torch.inference_mode():
            network.model.eval()(torch.zeros(2, 3, size, size))
    except (RuntimeError, ValueError, AssertionError) as error:
        raise _bad_size(config, error) from error
    network.model.to("meta")
    return network


def _published_model(architecture: str, config: ModelConfig) -> nn.Module:
    """Build the network as it was published, auxiliary classifiers included."""
    try:
        model = get_model(architecture, **constructor_arguments(architecture, config))
    except (AssertionError, ValueError, RuntimeError) as error:
        raise _bad_size(config, error) from error
    # Faster for the five convolutional backbones of the paper, no slower for ViT and Swin (benchmarks/precision.py).
    return model.to(memory_format=torch.channels_last)


def constructor_arguments(architecture: str, config: ModelConfig) -> dict[str, object]:
    """Return what torchvision's constructor is given, auxiliary classifiers included."""
    if architecture.startswith(("inception", "googlenet")):
        # The published weights were trained on inputs that the network shifts itself.
        return {"aux_logits": True, "transform_input": True, "init_weights": config.weights == "none"}
    if architecture.startswith("maxvit"):
        return {"input_size": (geometry_of(config).crop,) * 2}
    return {"image_size": geometry_of(config).crop} if architecture.startswith("vit") else {}


def _bad_size(config: ModelConfig, error: BaseException) -> InputError:
    own = geometry_of(dataclasses.replace(config, image_size=None, geometry=None)).crop
    reason = (str(error).strip().splitlines() or ["it is too small"])[0]
    return InputError(
        f"--image-size {config.image_size}: {config.backbone} cannot take it ({reason}); its own size is {own}"
        " (a ViT takes multiples of its patch size, Inception 75 and more)."
    )


def _slot(model: nn.Module) -> str:
    """Return the path of the final layer: the last Linear, or SqueezeNet's whole classifier, which has none."""
    linear = [name for name, module in model.named_modules() if isinstance(module, nn.Linear)]
    return linear[-1] if linear else "classifier"


@functools.lru_cache(maxsize=1)
def _pretrained(architecture: str, config: ModelConfig, data_dir: str | None) -> _Pretrained:
    """Load weights; the final layer's keys may be missing or of another width, since the head takes its place."""
    found = weights_of(architecture, config, data_dir)
    state = load_file(found.path, found.key)
    model = _published_model(architecture, config)
    _check_stem(architecture, model, state, config)
    slot = _slot(model)
    has_final_layer = any(key.startswith(f"{slot}.") for key in state)
    fit(model, state, config.weights, _AUXILIARY if config.head == "paper" and has_final_layer else (*_AUXILIARY, slot))
    # What the head replaces is no part of the features' name: where weights do not set it, it is random.
    replaced = tuple(f"{name}." for name in (*_AUXILIARY, slot))
    given = {name: value for name, value in model.state_dict().items() if not name.startswith(replaced)}
    return _Pretrained(model, has_final_layer, digest(given))


def _check_stem(architecture: str, model: nn.Module, state: Mapping[str, torch.Tensor], config: ModelConfig) -> None:
    """Say which backbone a file is of, where its first layer is that of the same ResNet for images of another size.

    Raises:
        InputError: It is.
    """
    first, plain = "conv1.weight", torchvisions_name(architecture)
    if plain not in resnets() or first not in state:
        return
    if state[first].shape != model.state_dict()[first].shape and state[first].shape[2:] in ((3, 3), (7, 7)):
        other = f"torchvision:{plain}" if is_small(architecture) else f"{PREFIX}{plain}"
        raise InputError(
            f"--weights {config.weights}: its first layer is that of {other}, not of {config.backbone}; give --backbone"
            f" {other}."
        )


def digest(state: Mapping[str, torch.Tensor]) -> str:
    """Return the SHA-256 of names and values."""
    sha256 = hashlib.sha256()
    for name, tensor in state.items():
        sha256.update(name.encode())
        sha256.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().data)
    return sha256.hexdigest()


def _replace(model: nn.Module, slot: str, config: ModelConfig, classes: int) -> str:
    """Put the head into the slot and return the path of the part of it that always trains."""
    original = model.get_submodule(slot)
    if isinstance(original, nn.Linear):
        head = new_head(config.head, original.in_features, classes, original)
        model.set_submodule(slot, head)
        return f"{slot}.2" if config.head == "paper" else slot
    # SqueezeNet classifies by a convolution in front of its pooling.
    assert isinstance(original, nn.Sequential)
    dropout, convolution, _, pooling = original
    if config.head == "paper":
        flat = nn.Sequential(original, nn.Flatten())
        model.set_submodule(slot, new_head("paper", PAPER_LOGITS, classes, flat))
        return f"{slot}.2"
    head = new_head(config.head, _channels(convolution), classes, None)
    model.set_submodule(slot, nn.Sequential(dropout, pooling, nn.Flatten(), head))
    return f"{slot}.3"


def _channels(convolution: nn.Module) -> int:
    assert isinstance(convolution, nn.Conv2d)
    return convolution.in_channels


def _user_network(config: ModelConfig, classes: int, data_dir: str | None) -> Network:
    if config.weights == "none":
        raise InputError(
            f"--weights none: {config.backbone} decides its own weights; leave --weights out, or give a file."
        )
    backbone = user_module(config.backbone)
    if is_file_spec(config.weights):
        found = weights_of("", config, data_dir)
        fit(backbone, load_file(found.path, found.key, backbone.state_dict()), config.weights, ())
    elif config.weights != "default":
        raise InputError(f"--weights {config.weights}: a backbone of your own takes default or a file's path.")
    width = _probed_width(backbone, config)
    head = new_head(config.head, width, classes, None)
    parts = [name for name, module in backbone.named_children() if owns(module)]
    model = nn.Sequential(OrderedDict(backbone=backbone, head=head))
    return Network(model, "head", (f"backbone.{parts[-1]}",) if parts else ("backbone",))


def _probed_width(backbone: nn.Module, config: ModelConfig) -> int:
    size = geometry_of(config).crop
    training = backbone.training
    with torch.no_grad():
        features = backbone.eval()(torch.zeros(2, 3, size, size))
    backbone.train(training)
    if not isinstance(features, torch.Tensor) or features.ndim != 2:
        shape = tuple(features.shape) if isinstance(features, torch.Tensor) else type(features).__name__
        raise InputError(
            f"--backbone {config.backbone}: (2, 3, {size}, {size}) images must give (2, D) features, not {shape}."
        )
    return int(features.shape[1])
