"""Where the last stage of a network begins: what trains, besides the head, in freeze mode ``partial``."""

from torch import nn

_LAST_STAGES: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("resnet", ("layer4",)),
    ("resnext", ("layer4",)),
    ("wide_resnet", ("layer4",)),
    ("inception", ("Mixed_7a", "Mixed_7b", "Mixed_7c")),
    ("googlenet", ("inception5a", "inception5b")),
    ("densenet", ("features.denseblock4", "features.norm5")),
    # A Swin stage begins with the patch merging that halves its resolution.
    ("swin", ("features.6", "features.7", "norm")),
)
_TRUNKS = ("features", "layers", "blocks", "trunk_output", "encoder.layers")


def last_stage(architecture: str, model: nn.Module, slot: str) -> tuple[str, ...]:
    """Return the modules of the last stage: named for the known families, else the trunk's last part with parameters.

    What stands between the trunk and the head (VGG's fully connected layers, a final norm) belongs to it.
    """
    for prefix, stage in _LAST_STAGES:
        if architecture.startswith(prefix):
            return stage
    trunk = next((path for path in _TRUNKS if _has(model, path)), "")
    parts = [f"{trunk}.{name}".lstrip(".") for name, part in model.get_submodule(trunk).named_children() if owns(part)]
    parts = [part for part in parts if not slot.startswith(part)]
    if architecture.startswith("vgg"):
        parts = [",".join(_last_block(model.get_submodule(trunk), trunk))]
    last = tuple(parts[-1].split(","))
    behind = _behind(model, trunk)
    return (*last, *behind)


def _last_block(features: nn.Module, trunk: str) -> list[str]:
    """The layers of a VGG between its last two poolings."""
    layers = list(features.named_children())
    pools = [index for index, (_, layer) in enumerate(layers) if isinstance(layer, nn.MaxPool2d)]
    return [f"{trunk}.{name}" for name, layer in layers[pools[-2] + 1 :] if owns(layer)]


def _behind(model: nn.Module, trunk: str) -> tuple[str, ...]:
    """Top-level modules with parameters after the trunk, and those beside it in the trunk's own parent."""
    if trunk == "encoder.layers":
        return ("encoder.ln",)
    if not trunk:
        return ()
    names = [name for name, module in model.named_children() if owns(module)]
    return tuple(names[names.index(trunk) + 1 :])


def owns(module: nn.Module) -> bool:
    """Return whether a module has parameters."""
    return next(module.parameters(), None) is not None


def _has(model: nn.Module, path: str) -> bool:
    try:
        model.get_submodule(path)
    except AttributeError:
        return False
    return True
