"""ResNets for small images, as backbones of studies."""

import pytest
import torch
from torch import nn

from trainables.config import Geometry, ModelConfig
from trainables.errors import InputError
from trainables.inference.source import standalone
from trainables.networks.backbones import build, check
from trainables.networks.identity import architecture_of, geometry_of, resolve
from trainables.networks.small_stem import get_model, resnets

SMALL = ModelConfig(backbone="small:resnet18", weights="none", head="linear")


def test_the_first_layers_are_those_of_the_paper_and_all_else_is_torchvisions() -> None:
    small, plain = get_model("resnet18-small"), get_model("resnet18")

    shapes = {name: values.shape for name, values in small.state_dict().items()}

    assert shapes.pop("conv1.weight") == (64, 3, 3, 3)
    assert shapes == {name: v.shape for name, v in plain.state_dict().items() if name != "conv1.weight"}
    assert isinstance(small.get_submodule("maxpool"), nn.Identity)
    seen: list[torch.Size] = []
    small.get_submodule("layer1").register_forward_hook(lambda _, given, __: seen.append(given[0].shape))
    small.eval()(torch.zeros(1, 3, 32, 32))
    assert seen == [(1, 64, 32, 32)]


def test_it_is_a_backbone_of_a_study() -> None:
    network = check(SMALL, None)

    assert (network.head_path, network.last_stage) == ("fc", ("layer4",))
    assert geometry_of(SMALL) == Geometry(
        resize=32, crop=32, interpolation="bilinear", mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225)
    )
    assert resolve(SMALL, None).weights_name == "none"


def test_every_resnet_has_one() -> None:
    assert {"resnet18", "resnext50_32x4d", "wide_resnet50_2"} < set(resnets())
    assert architecture_of("small:resnext50_32x4d") == "resnext50_32x4d-small"


@pytest.mark.parametrize(
    ("config", "words"),
    [
        (ModelConfig(backbone="small:vgg11"), "unknown backbone"),
        (ModelConfig(backbone="small:resnet18"), r"no weights of that name; known are none, or a file's path"),
        (ModelConfig(backbone="small:resnet18", weights="IMAGENET1K_V1"), "no weights of that name"),
    ],
)
def test_what_it_is_not_is_said(config: ModelConfig, words: str) -> None:
    with pytest.raises(InputError, match=words):
        resolve(config, None)


def test_the_lines_of_the_model_card_build_it() -> None:
    network = build(SMALL, 3, data_dir=None, seed=0)

    code = standalone(network.model, SMALL, "ignore")

    assert code is not None
    begin = code.index("model = ")
    names: dict[str, object] = {}
    exec(f"from torch import nn\nfrom torchvision import models\n{code[begin : code.index('model.load_state')]}", names)
    model = names["model"]
    assert isinstance(model, nn.Module)
    model.load_state_dict(network.model.state_dict())
    images = torch.rand(2, 3, 32, 32)
    assert torch.allclose(model.eval()(images), network.model.eval()(images), atol=1e-5)
