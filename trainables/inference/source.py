"""The lines of Python that load a final model without this project."""

from collections.abc import Iterator

import torch
from torch import nn

from trainables.config import Exif, ModelConfig
from trainables.networks.backbones import constructor_arguments
from trainables.networks.identity import architecture_of
from trainables.networks.small_stem import torchvisions_name
from trainables.vision import models

_LINES = """\
import json, pathlib, torch
from collections import OrderedDict
from PIL import Image, ImageOps
from safetensors.torch import load_file
from torch import nn
from torchvision import models, transforms as T

p = json.loads(pathlib.Path("preprocessing.json").read_text("utf-8"))
{model}
model.load_state_dict(load_file("model.safetensors"))
resize = T.Resize(p["resize"], T.InterpolationMode(p["interpolation"]))
prepare = T.Compose([resize, T.CenterCrop(p["crop"]), T.ToTensor(), T.Normalize(p["mean"], p["std"])])
image = {image}
with torch.inference_mode():
    probabilities = model.eval()(prepare(image)[None]).softmax(dim=1)[0]
print(max(zip(probabilities.tolist(), p["classes"])))
"""
_IMAGE: dict[Exif, str] = {
    "turn": 'ImageOps.exif_transpose(Image.open("image.jpg")).convert("RGB")',
    "ignore": 'Image.open("image.jpg").convert("RGB")',
}


def standalone(model: nn.Module, config: ModelConfig, exif: Exif) -> str | None:
    """Return the lines that load a final model in its folder and classify ``image.jpg``.

    They need torch, torchvision, safetensors and Pillow, and for a user's own backbone its module.

    Args:
        model: The network, as `trainables.networks.backbones.build` made it.
        config: What it was built from.
        exif: Whether images are turned.

    Returns:
        The code; None: the network has a part that is none of torch's own.
    """
    try:
        built = "\n".join(_own(model, config) if not architecture_of(config.backbone) else _torchvisions(model, config))
    except LookupError:
        return None
    code = _LINES.format(model=built, image=_IMAGE[exif])
    unused = {
        "from collections import OrderedDict\n": "OrderedDict(" not in built,
        "from torch import nn\n": "nn." not in built,
        ", ImageOps": exif == "ignore",
        "models, ": "models." not in built,
    }
    for name, is_unused in unused.items():
        code = code.replace(name, "") if is_unused else code
    return code


def _torchvisions(model: nn.Module, config: ModelConfig) -> Iterator[str]:
    """Build torchvision's network, and put in what is another's there."""
    architecture = architecture_of(config.backbone)
    arguments = constructor_arguments(architecture, config)
    if "aux_logits" in arguments:
        arguments |= {"aux_logits": False, "init_weights": False}
    said = "".join(f", {name}={value!r}" for name, value in arguments.items())
    yield f'model = models.get_model("{torchvisions_name(architecture)}", weights=None{said})'
    for path, module in _differing(model, _published(torchvisions_name(architecture), arguments), ""):
        if not path:
            raise LookupError(type(module).__name__)
        steps = (f"[{name}]" if name.isdecimal() else f".{name}" for name in path.split("."))
        yield f"model{''.join(steps)} = {_source(module)}"


def _published(architecture: str, arguments: dict[str, object]) -> nn.Module:
    """Build torchvision's network for its parts alone, without values where that is possible."""
    try:
        with torch.device("meta"):
            made: nn.Module = models.get_model(architecture, weights=None, **arguments)
    except RuntimeError:
        # MaxViT's constructor looks at values.
        with torch.random.fork_rng(devices=[]):
            made = models.get_model(architecture, weights=None, **arguments)
    return made


def _own(model: nn.Module, config: ModelConfig) -> Iterator[str]:
    name, _, function = config.backbone.partition(":")
    yield f"from {name} import {function}"
    head = _source(model.get_submodule("head"))
    yield f"model = nn.Sequential(OrderedDict(backbone={function}(), head={head}))"


def _differing(model: nn.Module, plain: nn.Module, path: str) -> list[tuple[str, nn.Module]]:
    """Return the outermost modules in which two networks differ, with their paths; of several in a row, the row."""
    parts, others = dict(model.named_children()), dict(plain.named_children())
    is_same = type(model) is type(plain) and parts.keys() == others.keys()
    if not is_same or (not parts and repr(model) != repr(plain)):
        return [(path, model)]
    found = [_differing(part, others[name], f"{path}.{name}".lstrip(".")) for name, part in parts.items()]
    if type(model) is nn.Sequential and sum(map(bool, found)) > 1:
        return [(path, model)]
    return [one for several in found for one in several]


def _source(module: nn.Module) -> str:
    """Return the expression that makes a module of torch's own.

    Raises:
        LookupError: It is another's.
    """
    if type(module) is nn.Sequential:
        parts = dict(module.named_children())
        if list(parts) == [str(index) for index in range(len(parts))]:
            return f"nn.Sequential({', '.join(_source(part) for part in parts.values())})"
    if type(module) is nn.Linear and module.bias is not None:
        return f"nn.Linear({module.in_features}, {module.out_features})"
    if type(module).__module__.startswith("torch.nn.modules.") and not list(module.children()):
        # Of torch's single layers, what is printed is the call that makes them.
        return f"nn.{module!r}"
    raise LookupError(type(module).__name__)
