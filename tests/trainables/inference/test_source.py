"""The lines that build a network without this project build that very network, of every family and with every head."""

from contextlib import nullcontext
from typing import Any

import pytest
import torch
from torch import nn

from tests.tiny_backbone import tiny
from trainables.config import PAPER_BACKBONES, HeadKind, ModelConfig
from trainables.inference.source import standalone
from trainables.networks.backbones import build

FAMILIES = (
    # MaxViT and RegNet look at values while they are built, and so take longer.
    *("maxvit_t", "regnet_y_400mf", "alexnet", "convnext_tiny", "densenet121", "efficientnet_b0", "googlenet"),
    *("mnasnet0_5", "mobilenet_v2", "mobilenet_v3_small", "resnext50_32x4d", "shufflenet_v2_x0_5", "squeezenet1_1"),
)
PROJECTED: list[tuple[str, HeadKind]] = [
    (name, "projection") for name in (*PAPER_BACKBONES, *(f"torchvision:{family}" for family in FAMILIES))
]
OTHERS: list[tuple[str, HeadKind]] = [
    (name, head)
    for name in ("resnet18", "vit", "vgg", "inception", "torchvision:squeezenet1_1")
    for head in ("linear", "paper")
]


def rebuilt(code: str) -> nn.Module:
    """Run the lines between the preprocessing and the values."""
    built = code.partition('preprocessing.json").read_text("utf-8"))\n')[2].partition("model.load_state_dict")[0]
    imports = [line for line in code.splitlines() if line.startswith(("from torch", "from collections"))]
    scope: dict[str, Any] = {}
    exec("\n".join([*imports, built]), scope)
    model: nn.Module = scope["model"]
    return model


def parts(model: nn.Module) -> str:
    """What is printed of a network, without the auxiliary classifiers that it has no more."""
    return "\n".join(line for line in repr(model).splitlines() if not line.endswith("): None"))


def shapes(model: nn.Module) -> dict[str, torch.Size]:
    return {name: value.shape for name, value in model.state_dict().items()}


@pytest.mark.parametrize(("name", "head"), [*PROJECTED, *OTHERS])
def test_the_lines_build_every_family_and_every_head(name: str, head: HeadKind) -> None:
    looks = name.partition(":")[2] in ("maxvit_t", "regnet_y_400mf")
    config = ModelConfig(backbone=name, weights="none", head=head, image_size=224 if looks else 96)
    with nullcontext() if looks else torch.device("meta"):
        model = build(config, 3, data_dir=None, seed=0).model
        code = standalone(model, config, "turn")
        assert code is not None
        again = rebuilt(code)

    assert parts(again) == parts(model)
    assert shapes(again) == shapes(model)


@pytest.mark.parametrize(("name", "size"), [("inception", 75), ("torchvision:squeezenet1_1", 64)])
def test_the_same_values_give_the_same_logits(name: str, size: int) -> None:
    config = ModelConfig(backbone=name, weights="none", image_size=size)
    model = build(config, 3, data_dir=None, seed=0).model.eval()
    images = torch.randn(2, 3, size, size, generator=torch.Generator().manual_seed(0))

    code = standalone(model, config, "turn")

    assert code is not None
    again = rebuilt(code).eval()
    again.load_state_dict(model.state_dict(), strict=True)
    with torch.inference_mode():
        # The network's own memory is ordered otherwise, and so are its sums.
        torch.testing.assert_close(again(images), model(images), rtol=1e-3, atol=1e-6)


def test_a_changed_stem_is_put_in_too() -> None:
    config = ModelConfig(backbone="resnet18", weights="none")
    model = build(config, 3, data_dir=None, seed=0).model
    model.conv1 = nn.Conv2d(3, 64, 3, padding=1, bias=False)
    model.maxpool = nn.Identity()

    code = standalone(model, config, "turn")

    assert code is not None
    assert repr(rebuilt(code)) == repr(model)


def test_a_part_that_is_not_torchs_has_no_lines() -> None:
    class Own(nn.Linear):
        pass

    config = ModelConfig(backbone="resnet18", weights="none")
    model = build(config, 3, data_dir=None, seed=0).model
    model.fc = Own(512, 3)

    assert standalone(model, config, "turn") is None


def test_ones_own_backbone_is_called_by_its_name() -> None:
    config = ModelConfig(backbone="tests.tiny_backbone:tiny", image_size=32)
    model = build(config, 3, data_dir=None, seed=0).model

    code = standalone(model, config, "ignore")

    assert code is not None
    assert "ImageOps" not in code
    assert "models" not in code
    assert repr(rebuilt(code)) == repr(model)
    assert repr(tiny()) in repr(model).replace("\n  ", "\n")


def test_imports_are_those_that_are_used() -> None:
    plain = ModelConfig(backbone="resnet18", weights="none", head="linear", image_size=32)
    own = ModelConfig(backbone="tests.tiny_backbone:tiny", image_size=32)
    for config in (plain, own):
        code = standalone(build(config, 3, data_dir=None, seed=0).model, config, "turn")
        assert code is not None
        compile(code, "card", "exec")
        for name in ("OrderedDict", "nn", "models", "ImageOps"):
            is_used = f"{name}." in code or f"{name}(" in code
            assert (name in code.partition("\n\n")[0]) == is_used
