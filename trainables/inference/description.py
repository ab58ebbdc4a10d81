"""What must be known of a final model to use it elsewhere: how images are prepared, how it is built, whose it was."""

from dataclasses import dataclass

from torch import nn

from trainables.config import Exif, ModelConfig
from trainables.inference.preprocessing import Preprocessing
from trainables.inference.source import standalone
from trainables.networks.identity import architecture_of, geometry_of
from trainables.networks.published import IMAGENET_TERMS, PUBLISHED, SIMCLR_DEFAULT, is_file_spec
from trainables.vision import models


@dataclass(frozen=True, kw_only=True)
class Description:
    """What a model card says of a network."""

    preprocessing: Preprocessing
    code: str | None
    """The lines that load it without this project; None: there are none."""
    architecture: str
    """torchvision's name, or a user's ``package.module:function``."""
    n_parameters: int
    origin: str
    """Where its values came from before the study trained them."""
    licence: str
    """What is known of the terms of those."""


def describe(model: nn.Module, config: ModelConfig, exif: Exif, classes: tuple[str, ...]) -> Description:
    """Describe a network that `trainables.networks.backbones.build` made of `config`.

    Raises:
        InputError: The backbone is unknown.
    """
    origin, licence = _provenance(config)
    return Description(
        preprocessing=Preprocessing(exif=exif, geometry=geometry_of(config), classes=classes),
        code=standalone(model, config, exif),
        architecture=architecture_of(config.backbone) or config.backbone,
        n_parameters=sum(parameter.numel() for parameter in model.parameters()),
        origin=origin,
        licence=licence,
    )


def _provenance(config: ModelConfig) -> tuple[str, str]:
    """Where a network's first values came from, and their terms."""
    architecture = architecture_of(config.backbone)
    name = config.weights_name or config.weights
    if is_file_spec(config.weights):
        return f"the file {config.weights}", "whatever came with the file; hpo does not know it."
    if not architecture:
        return f"what {config.backbone} loads", "its author's to say; hpo does not know it."
    if config.weights == "none":
        return "random values", "none is needed: no weights of others are in it."
    if config.backbone == "simclr" and name == "default":
        name = SIMCLR_DEFAULT
    if name in PUBLISHED:
        return f"{name}, {PUBLISHED[name].url}", PUBLISHED[name].licence
    weights = models.get_model_weights(architecture)["DEFAULT" if name == "default" else name]
    terms = weights.meta.get("license")
    # https://github.com/pytorch/vision#pre-trained-model-license
    stated = f"CC-BY-NC 4.0 ({terms})." if terms else f"torchvision states none for these weights. {IMAGENET_TERMS}"
    return f"torchvision's {weights}, {weights.url}", stated
