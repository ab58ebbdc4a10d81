"""Every backbone builds from a file in its exact layout, trains what its freeze mode says, and nothing else."""

import copy
import gc
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import nn
from torch.nn.functional import cross_entropy
from torchvision.models import get_model

from trainables.config import FREEZE_MODES, PAPER_BACKBONES, FreezeMode, HeadKind, ModelConfig
from trainables.errors import InputError
from trainables.networks import backbones, freeze
from trainables.networks.backbones import Network
from trainables.networks.identity import geometry_of, user_module

SMALLEST = {"inception": 75, "vit": 32}
FAMILIES = [
    "alexnet",
    "convnext_tiny",
    "densenet121",
    "efficientnet_b0",
    "googlenet",
    "maxvit_t",
    "mnasnet0_5",
    "mobilenet_v2",
    "mobilenet_v3_small",
    "regnet_y_400mf",
    "resnext50_32x4d",
    "shufflenet_v2_x0_5",
    "squeezenet1_1",
    "vgg11_bn",
]


@pytest.fixture(scope="module", params=sorted(PAPER_BACKBONES))
def published(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Path]]:
    """A backbone's name and a file of random weights in torchvision's exact layout."""
    name = str(request.param)
    architecture = PAPER_BACKBONES[name]
    arguments = {"aux_logits": True, "init_weights": False} if name == "inception" else {}
    path = tmp_path_factory.mktemp("weights") / f"{architecture}.safetensors"
    save_file(get_model(architecture, weights=None, **arguments).state_dict(), path)
    yield name, path
    path.unlink()
    gc.collect()


def built(name: str, path: Path | str, mode: FreezeMode, head: HeadKind = "projection", size: int = 0) -> Network:
    config = ModelConfig(
        backbone=name,
        weights=str(path),
        head=head,
        image_size=size or SMALLEST.get(name, 33),
    )
    return backbones.build(config, 3, data_dir=None, seed=1)


def step(network: Network, mode: FreezeMode, size: int) -> None:
    """Take one real step of training."""
    freeze.apply(network, mode)
    freeze.train_mode(network, mode)
    optimizer = torch.optim.Adam(freeze.trainable_parameters(network), lr=1e-3)
    images = torch.randn(4, 3, size, size, generator=torch.Generator().manual_seed(0))
    cross_entropy(network.model(images), torch.tensor([0, 1, 2, 0])).backward()  # type: ignore[no-untyped-call]
    optimizer.step()


@pytest.mark.parametrize("mode", FREEZE_MODES)
def test_a_step_moves_what_the_freeze_mode_says(published: tuple[str, Path], mode: FreezeMode) -> None:
    name, path = published
    size = SMALLEST.get(name, 33)
    network = built(name, path, mode)
    before = copy.deepcopy(network.model.state_dict())

    step(network, mode, size)

    after = network.model.state_dict()
    moved = {key for key in before if not torch.equal(before[key], after[key])}
    may_move = freeze.moving_state(network, mode).keys()
    assert moved <= may_move
    assert {key for key in moved if key.startswith(network.head_path)}
    parameters = {key for key, _ in network.model.named_parameters()}
    buffers = {key for key, _ in network.model.named_buffers() if key.endswith("running_mean")}
    # A ReLU that happens to be dead for these few images keeps single parameters still, but not most.
    assert len(moved & parameters) >= 0.8 * len(may_move & parameters)
    assert moved & buffers == may_move & buffers
    if mode == "backbone":
        assert not moved & buffers
    if mode == "partial":
        assert any(not key.startswith(network.head_path) for key in moved)


@pytest.mark.parametrize("mode", FREEZE_MODES)
def test_what_moved_can_be_saved_and_put_back(published: tuple[str, Path], mode: FreezeMode) -> None:
    name, path = published
    network = built(name, path, mode)
    step(network, mode, SMALLEST.get(name, 33))
    saved = {key: value.clone() for key, value in freeze.moving_state(network, mode).items()}

    fresh = built(name, path, mode)
    freeze.load_moving_state(fresh, saved, mode)

    restored, expected = fresh.model.state_dict(), network.model.state_dict()
    assert all(torch.equal(restored[key], expected[key]) for key in expected)


@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_of_torchvision_takes_a_head(family: str) -> None:
    size = 224 if family == "maxvit_t" else 64
    for head in ("projection", "paper"):
        config = ModelConfig(backbone=f"torchvision:{family}", weights="none", head=head, image_size=size)
        network = backbones.build(config, 5, data_dir=None, seed=0)
        model = network.model.to("meta").eval()

        assert model(torch.zeros(2, 3, size, size, device="meta")).shape == (2, 5)
        for stage in (*network.last_stage, network.head_path):
            assert next(model.get_submodule(stage).parameters(), None) is not None


@pytest.mark.parametrize("name", sorted(PAPER_BACKBONES))
def test_the_image_size_can_be_chosen(name: str) -> None:
    backbones.check(ModelConfig(backbone=name, weights="none", image_size=96), None)

    assert geometry_of(ModelConfig(backbone=name, image_size=96)).crop == 96


def test_a_trained_network_loads_into_torchvisions_model(tmp_path: Path) -> None:
    network = built("resnet18", "none", "none")
    plain = get_model("resnet18", weights=None)
    plain.fc = nn.Sequential(nn.Linear(512, 512), nn.ReLU(), nn.Linear(512, 3))

    plain.load_state_dict(network.model.state_dict(), strict=True)

    images = torch.randn(2, 3, 64, 64)
    plain.to(memory_format=torch.channels_last)  # another layout adds in another order
    assert torch.equal(plain.eval()(images), network.model.eval()(images))


def test_the_papers_head_freezes_its_random_layer_as_the_paper_did(tmp_path: Path) -> None:
    state = get_model("resnet50", weights=None).state_dict()
    path = tmp_path / "encoder.safetensors"
    save_file({key: value for key, value in state.items() if not key.startswith("fc.")}, path)
    network = built("simclr", path, "backbone", head="paper")

    freeze.apply(network, "backbone")

    trains = {name for name, parameter in network.model.named_parameters() if parameter.requires_grad}
    assert trains == {"fc.2.weight", "fc.2.bias"}
    assert network.model.get_parameter("fc.0.weight").shape == (1000, 2048)


def test_the_papers_random_layer_follows_the_seed(tmp_path: Path) -> None:
    state = get_model("resnet18", weights=None).state_dict()
    path = tmp_path / "encoder.safetensors"
    save_file({key: value for key, value in state.items() if not key.startswith("fc.")}, path)
    config = ModelConfig(backbone="resnet18", weights=str(path), head="paper", image_size=33)

    layers = [
        backbones.build(config, 3, data_dir=None, seed=seed).model.get_parameter("fc.0.weight") for seed in (1, 2, 1)
    ]

    assert torch.equal(layers[0], layers[2])
    assert not torch.equal(layers[0], layers[1])


def test_a_process_reads_weights_once_and_its_networks_share_nothing(tmp_path: Path) -> None:
    state = get_model("resnet18", weights=None).state_dict()
    path = tmp_path / "resnet18.safetensors"
    save_file(state, path)

    first = built("resnet18", path, "none")
    path.unlink()
    first.model.get_parameter("conv1.weight").data.zero_()
    second = built("resnet18", path, "backbone")

    assert torch.equal(second.model.get_parameter("conv1.weight"), state["conv1.weight"])
    assert torch.equal(second.model.get_parameter("fc.0.weight"), first.model.get_parameter("fc.0.weight"))


def test_the_same_seed_initialises_the_same_and_leaves_torchs_own_state_alone() -> None:
    state = torch.get_rng_state()

    first, second = built("resnet18", "none", "none"), built("resnet18", "none", "none")

    assert all(torch.equal(a, b) for a, b in zip(first.model.parameters(), second.model.parameters(), strict=True))
    assert torch.equal(state, torch.get_rng_state())


@pytest.mark.parametrize(
    ("config", "said"),
    [
        (ModelConfig(backbone="resnet81"), "did you mean resnet18"),
        (ModelConfig(backbone="torchvision:squeezenet"), "did you mean torchvision:squeezenet1_"),
        (ModelConfig(backbone="no_such_package:make"), "cannot be called"),
        (ModelConfig(backbone="vit", weights="none", image_size=50), "--image-size 50: vit cannot take it"),
        (ModelConfig(backbone="inception", weights="none", image_size=40), "--image-size 40: inception cannot"),
        (ModelConfig(backbone="resnet18", weights="IMAGENET9"), "IMAGENET1K_V1"),
        (ModelConfig(backbone="resnet18", weights="simclr-stl10"), "are of a resnet50"),
    ],
)
def test_what_cannot_be_built_is_said(config: ModelConfig, said: str) -> None:
    with pytest.raises(InputError) as caught:
        backbones.check(config, None)

    assert said in str(caught.value)


def test_a_backbone_of_ones_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "own_backbones.py").write_text(
        "from torch import nn\n"
        "def tiny(): return nn.Sequential(nn.Conv2d(3, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten())\n"
        "def flat(): return nn.Conv2d(3, 4, 3)\n"
        "def number(): return 7\n",
        encoding="utf-8",
    )
    monkeypatch.syspath_prepend(tmp_path)

    network = backbones.build(ModelConfig(backbone="own_backbones:tiny"), 3, data_dir=None, seed=0)

    assert network.model(torch.zeros(2, 3, 32, 32)).shape == (2, 3)
    for function, said in (("flat", "must give (2, D) features"), ("number", "must return a torch.nn.Module")):
        with pytest.raises(InputError, match=said.replace("(", r"\(").replace(")", r"\)")):
            backbones.build(ModelConfig(backbone=f"own_backbones:{function}"), 3, data_dir=None, seed=0)


@pytest.mark.parametrize(
    ("backbone", "refused"),
    [
        ("resnet18", {"none", "partial"}),
        ("torchvision:mobilenet_v3_small", {"none", "partial"}),
        ("torchvision:squeezenet1_1", set()),
        ("tests.tiny_backbone:tiny", {"none"}),
    ],
)
def test_batch_norm_that_trains_refuses_a_batch_of_one(backbone: str, refused: set[FreezeMode]) -> None:
    weights = "default" if backbone.startswith("tests") else "none"
    network = backbones.check(ModelConfig(backbone=backbone, weights=weights), None)

    for mode in refused:
        with pytest.raises(InputError, match="give batches of 2 and more"):
            freeze.check_batch_of_one(network, mode)
    for mode in set(FREEZE_MODES) - refused:
        freeze.check_batch_of_one(network, mode)


def test_a_module_of_the_working_directory_is_found_and_shadows_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.path", [*sys.path])
    (tmp_path / "own_network_here.py").write_text("import json, torch\nmake = torch.nn.Flatten\n", "utf-8")
    (tmp_path / "json.py").write_text("raise RuntimeError('the file here was imported')", "utf-8")
    monkeypatch.delitem(sys.modules, "json")

    assert isinstance(user_module("own_network_here:make"), nn.Flatten)
