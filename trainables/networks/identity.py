"""What a backbone and its weights are: the names they were asked for by, resolved, with digests and their transform."""

import dataclasses
import difflib
import logging

from torch import nn

from trainables.checkpoints.layouts import Layout
from trainables.config import IMAGENET, PAPER_BACKBONES, Geometry, ModelConfig
from trainables.errors import InputError
from trainables.networks.fetch import sha256
from trainables.networks.published import (
    PUBLISHED,
    SIMCLR_DEFAULT,
    FoundWeights,
    find_weights,
    is_file_spec,
    known_architecture,
    named_geometry,
    scaled,
)
from trainables.networks.small_stem import PREFIX, is_small, resnets, small_name
from trainables.networks.weights import layout_of
from trainables.user_code import code_sha256, imported
from trainables.vision import models

logger = logging.getLogger(__name__)


def geometry_of(config: ModelConfig) -> Geometry:
    """Return the transform that goes with a network's weights.

    That is what was recorded when its study began; else, as hpo 0.1.0 did, that of the backbone's default weights at
    the image size that was asked for, whatever its weights are.

    Raises:
        InputError: The backbone is unknown.
    """
    return config.geometry or scaled(_default_geometry(config.backbone), config.image_size)


def resolve(
    config: ModelConfig,
    data_dir: str | None,
    geometry_of_name: str | None = None,
    before: ModelConfig | None = None,
) -> ModelConfig:
    """Look up what a backbone and its weights are: names, digests, and the transform that goes with the weights.

    Args:
        config: As a user asked for it.
        data_dir: Where published weights are kept, and fetched to.
        geometry_of_name: The published weights, or the layout, whose transform a file's weights were trained with;
            None: what the file's metadata says, else what its layout decides, else that of the backbone's default
            weights.
        before: What a study of that name recorded; of the same file it keeps the transform, which hpo 0.2.0 did not
            know of any layout. None: there is no such study.

    Raises:
        InputError: The backbone or its weights cannot be used, or a transform is named for weights that have their own.
    """
    architecture = architecture_of(config.backbone)
    is_file = is_file_spec(config.weights)
    found = None
    if config.weights != "none" and (architecture or is_file):
        found = find_weights(architecture, config.backbone, config.weights, data_dir)
    if geometry_of_name is not None and not is_file:
        raise InputError(
            f"--geometry-of {geometry_of_name}: only for a file's weights; {config.weights} have their own."
        )
    digest = sha256(found.path) if found is not None else None
    own = found.geometry if found is not None else None
    layout = layout_of(found.path, found.key) if found is not None and is_file else None
    kept = None
    if geometry_of_name is not None:
        own = named_geometry(architecture, geometry_of_name)
    elif own is None and is_file:
        same = before is not None and (before.weights_sha256, before.image_size) == (digest, config.image_size)
        kept = before.geometry if before is not None and same else None
        # A module of one's own says itself what it takes; publishers' transforms are for ImageNet's stem.
        is_theirs = bool(architecture) and not is_small(architecture)
        own = None if kept is not None else _of_layout(layout if is_theirs else None, config)
    return dataclasses.replace(
        config,
        weights=found.name if found is not None and is_file else config.weights,
        weights_name=found.name if found is not None else config.weights,
        weights_sha256=digest,
        code_sha256=None if architecture else _code_sha256(config.backbone),
        geometry=kept or scaled(own or _usual_geometry(config.backbone), config.image_size),
    )


def verify(config: ModelConfig, data_dir: str | None) -> None:
    """See that a backbone and its weights are still those that a study recorded.

    Raises:
        InputError: They are others, or gone.
    """
    architecture = architecture_of(config.backbone)
    if config.weights_sha256 is not None:
        weights_of(architecture, config, data_dir)
    if config.code_sha256 is not None and _code_sha256(config.backbone) != config.code_sha256:
        name = config.backbone.partition(":")[0]
        raise InputError(
            f"--backbone {config.backbone}: the file of {name} is not what the study was started with; restore it, or"
            " start a study under another name."
        )


def weights_of(architecture: str, config: ModelConfig, data_dir: str | None) -> FoundWeights:
    """Find a study's weights on this machine.

    Raises:
        InputError: They are gone, or are not those that the study recorded.
    """
    found = find_weights(architecture, config.backbone, config.weights_name or config.weights, data_dir)
    if config.weights_sha256 is not None and sha256(found.path) != config.weights_sha256:
        raise InputError(
            f"--weights {found.path}: the file is not the one that the study was started with; restore it, or start a"
            " study under another name."
        )
    return found


def architecture_of(backbone: str) -> str:
    """Return the name of a backbone's architecture; empty for a user's ``package.module:function``.

    It is torchvision's, or for ``small:NAME`` that of `trainables.networks.small_stem`.

    Raises:
        InputError: There is no such backbone; the message suggests the nearest.
    """
    architecture = known_architecture(backbone)
    if not architecture and ":" in backbone:
        return ""
    known = models.list_models(module=models)
    if architecture in (*known, *map(small_name, resnets())):
        return architecture
    names = [
        *PAPER_BACKBONES,
        *(f"torchvision:{name}" for name in known),
        *(f"{PREFIX}{name}" for name in resnets()),
    ]
    near = difflib.get_close_matches(backbone, names, n=1, cutoff=0.5)
    hint = f"did you mean {near[0]}? " if near else ""
    raise InputError(
        f"--backbone {backbone}: unknown backbone; {hint}Known are {', '.join(PAPER_BACKBONES)}, torchvision:NAME for"
        f" torchvision's other classification models, {PREFIX}NAME for its ResNets with a stem for small images, and"
        " package.module:function for your own."
    )


def user_module(spec: str) -> nn.Module:
    """Call a user's ``package.module:function``."""
    try:
        made = imported(spec)()
    except (ImportError, AttributeError, ValueError) as error:
        raise InputError(
            f"--backbone {spec}: cannot be called ({error}); give package.module:function, importable from here, and"
            " a function without arguments."
        ) from error
    if not isinstance(made, nn.Module):
        raise InputError(f"--backbone {spec}: the function must return a torch.nn.Module, not {type(made).__name__}.")
    return made


def _of_layout(layout: Layout | None, config: ModelConfig) -> Geometry | None:
    """Return the transform that a file's names decide, and say which one is taken."""
    own = layout.geometry if layout is not None else None
    if layout is None or own is None:
        logger.warning(
            "--weights %s: the file does not say how its images were prepared; taken is what %s's default weights take"
            " (--geometry-of names others)",
            config.weights,
            config.backbone,
        )
        return None
    logger.info(
        "--weights %s: a ResNet in the layout of %s; images are prepared as for its training: %d px, mean %s, std %s"
        " (--geometry-of names others)",
        config.weights,
        layout.publisher,
        own.crop,
        ", ".join(f"{value:g}" for value in own.mean),
        ", ".join(f"{value:g}" for value in own.std),
    )
    return own


def _default_geometry(backbone: str) -> Geometry:
    architecture = architecture_of(backbone)
    if architecture:
        return named_geometry(architecture, "default")
    own: Geometry = getattr(user_module(backbone), "geometry", IMAGENET)
    return own


def _usual_geometry(backbone: str) -> Geometry:
    """The transform of the weights that a backbone takes by default."""
    return PUBLISHED[SIMCLR_DEFAULT].geometry if backbone == "simclr" else _default_geometry(backbone)


def _code_sha256(spec: str) -> str | None:
    """The digest of the file that a user's function is in, which can be called; None: it is in none, as one of C."""
    user_module(spec)
    return code_sha256(spec)
