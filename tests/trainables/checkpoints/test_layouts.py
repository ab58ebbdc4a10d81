"""Published layouts are recognised by their names, give the features of their own network, and are refused by name."""

import argparse
import dataclasses
import functools
import json
from collections import OrderedDict
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import save_file
from torch import Tensor, nn
from torchvision.models import get_model

from tests.trainables.checkpoints.originals import (
    CLASSES,
    WIDTH,
    Named,
    SimClrV2,
    Swav,
    Vissl,
    headless,
    mlp,
    pooled,
    resnet18,
    trained,
    trunk,
)
from trainables.checkpoints.layouts import GEOMETRIES, LAYOUTS, Layout, in_torchvisions_names, recognise
from trainables.checkpoints.torch_records import WeightsFileError
from trainables.config import IMAGENET, ModelConfig
from trainables.errors import InputError
from trainables.networks import backbones, small_stem
from trainables.networks.identity import geometry_of, resolve
from trainables.networks.published import GEOMETRY_KEY
from trainables.networks.weights import file_and_key, fit, layout_of, load_file


def linear(after: int = CLASSES) -> nn.Linear:
    return nn.Linear(WIDTH, after)


def in_backbone(model: Any, images: Tensor) -> Tensor:
    return torch.flatten(model.backbone(images), 1)


def in_encoder(model: Any, images: Tensor) -> Tensor:
    return torch.flatten(model.encoder(images), 1)


def of(name: str) -> Callable[[Any, Tensor], Tensor]:
    """Return what takes the features of the ResNet that has this path, in front of its final layer."""
    return lambda model, images: pooled(model.get_submodule(name), images)


def lightly(backbone: nn.Module) -> Named:
    return Named(in_backbone, backbone=backbone, projection_head=Named(in_backbone, layers=mlp(WIDTH, 64, 16)))


def solo(**parts: nn.Module) -> Named:
    return Named(in_backbone, backbone=headless(resnet18()), classifier=linear(), **parts)


def dino(network: Any) -> Named:
    head = Named(in_backbone, mlp=mlp(WIDTH, 32, 16))
    head.last_layer = nn.utils.parametrizations.weight_norm(nn.Linear(16, 30, bias=False))
    return Named(in_backbone, backbone=headless(network), head=head)


def dino_state(network: Named) -> dict[str, Tensor]:
    """Return the names that nn.utils.weight_norm gives, which DINO uses."""
    parametrised = "head.last_layer.parametrizations.weight.original"
    named = {f"{parametrised}0": "head.last_layer.weight_g", f"{parametrised}1": "head.last_layer.weight_v"}
    return {f"module.{named.get(key, key)}": value for key, value in network.state_dict().items()}


def moco(prefix: str, state: Mapping[str, Tensor]) -> dict[str, Any]:
    queue = {f"{prefix}queue": torch.rand(16, 8), f"{prefix}queue_ptr": torch.zeros(1, dtype=torch.long)}
    return {f"{prefix}{key}": value for key, value in state.items()} | queue


def twice(state: Mapping[str, Tensor], first: str, second: str) -> dict[str, Tensor]:
    """Add a momentum encoder, which is not the one that is wanted."""
    other = {key.replace(first, second, 1): torch.zeros(1) for key in state if key.startswith(first)}
    return dict(state) | other


def checkpoints() -> dict[str, tuple[Named | nn.Module, Callable[[dict[str, Tensor]], Any]]]:
    """Return each layout's own network, and how its checkpoint is made of that network's state dict."""
    lit = {"epoch": 3, "global_step": 9, "hyper_parameters": {"maxpool1": True, "dataset": "imagenet"}}
    return {
        "sthalles": (
            Named(of("backbone"), backbone=headless(resnet18(), mlp(WIDTH, WIDTH, 128))),
            lambda state: {"epoch": 40, "arch": "resnet18", "state_dict": state, "optimizer": {"state": {}}},
        ),
        "vissl": (
            Vissl(resnet18()),
            lambda state: {
                "iteration": 1,
                "classy_state_dict": {
                    "base_model": {
                        "model": {"trunk": state, "heads": {"0.clf.0.weight": torch.zeros(2)}},
                        "meters": {"train": [], "test": []},
                    },
                    "optim": {"state": {0: {"momentum_buffer": torch.zeros(3)}}},
                },
            },
        ),
        "solo-learn": (
            solo(projector=mlp(WIDTH, 64, 16), predictor=mlp(16, 16)),
            lambda state: lit | {"state_dict": twice(state, "backbone.", "momentum_backbone.")},
        ),
        "solo-learn, before": (
            Named(in_encoder, encoder=headless(resnet18()), classifier=linear(), projector=mlp(WIDTH, 64, 16)),
            lambda state: lit | {"state_dict": state},
        ),
        "lightly, numbers": (
            lightly(trunk(resnet18())),
            lambda state: lit | {"state_dict": twice(state, "backbone.", "backbone_momentum.")},
        ),
        "lightly, names": (lightly(headless(resnet18())), lambda state: lit | {"state_dict": state}),
        "lightning-bolts": (
            Named(
                of("encoder"),
                encoder=headless(resnet18(), nn.Linear(WIDTH, 1000)),
                projection=Named(in_encoder, model=mlp(WIDTH, 64, 16)),
            ),
            lambda state: lit | {"state_dict": state},
        ),
        "lightning-bolts-byol": (
            Named(
                of("online_network.encoder"),
                online_network=Named(in_encoder, encoder=headless(resnet18(), linear()), projector=mlp(WIDTH, 16)),
                predictor=mlp(16, 16),
            ),
            lambda state: lit | {"state_dict": twice(state, "online_network.", "target_network.")},
        ),
        "moco": (
            Named(of("encoder_q"), encoder_q=headless(resnet18(), mlp(WIDTH, WIDTH, 128))),
            lambda state: {"state_dict": moco("module.", twice(state, "encoder_q.", "encoder_k."))},
        ),
        "moco-v3": (
            Named(of("base_encoder"), base_encoder=headless(resnet18(), mlp(WIDTH, 64, 16)), predictor=mlp(16, 16)),
            lambda state: {
                "state_dict": {f"module.{k}": v for k, v in twice(state, "base_encoder.", "momentum_encoder.").items()}
            },
        ),
        "byol-pytorch": (
            Named(
                of("online_encoder.net"),
                online_encoder=Named(in_encoder, net=headless(resnet18(), linear()), projector=mlp(WIDTH, 16)),
                online_predictor=mlp(16, 16),
            ),
            lambda state: (
                twice(state, "online_encoder.", "target_encoder.")
                | {
                    k.removeprefix("online_encoder."): v
                    for k, v in state.items()
                    if k.startswith("online_encoder.net.")
                }
            ),
        ),
        "sthalles-byol": (
            Named(in_encoder, encoder=trunk(resnet18()), projetion=Named(in_encoder, net=mlp(WIDTH, 16))),
            lambda state: {"online_network_state_dict": state, "optimizer_state_dict": {"state": {}}},
        ),
        "dino": (
            dino(resnet18()),
            lambda _: {"args": argparse.Namespace(arch="resnet18"), "dino_loss": {"center": torch.zeros(1, 30)}},
        ),
        "swav": (Swav(resnet18()), lambda state: {f"module.{key}": value for key, value in state.items()}),
        "openmmlab": (
            Named(
                in_backbone,
                backbone=headless(resnet18()),
                neck=Named(in_backbone, fc0=linear(), bn0=nn.BatchNorm1d(CLASSES)),
            ),
            lambda state: {"meta": {"epoch": 800}, "state_dict": state, "message_hub": argparse.Namespace(log={})},
        ),
        ", torchvision's and timm's names": (
            Named(of("net"), net=resnet18()),
            lambda state: {
                "state_dict": {f"_orig_mod.{key.removeprefix('net.')}": value for key, value in state.items()}
            },
        ),
        "spijkervet": (
            Named(in_encoder, encoder=headless(resnet18()), projector=mlp(WIDTH, WIDTH, 64)),
            lambda state: state,
        ),
    }


@pytest.fixture(scope="module")
def originals() -> dict[str, tuple[Any, Any]]:
    torch.manual_seed(0)
    return {name: (model.eval(), make) for name, (model, make) in checkpoints().items()}


@pytest.fixture(scope="module")
def networks() -> Callable[[str], Any]:
    """torchvision's networks, without any values of their own."""
    made = functools.cache(lambda architecture: get_model(architecture, weights=None).eval())

    def emptied(architecture: str) -> Any:
        network = made(architecture)
        for value in network.state_dict().values():
            value.zero_()
        return network

    return emptied


def loaded(network: Any, path: Path, key: str | None = None) -> Callable[[Tensor], Tensor]:
    """Load a file as a study does; return what the network then sees, in front of its final layer."""
    fit(network, load_file(path, key), str(path), ("fc",))
    return lambda images: pooled(network, images)


def assert_same_features(original: Callable[[Tensor], Tensor], mapped: Callable[[Tensor], Tensor]) -> None:
    images = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        expected, found = original(images), mapped(images)
    # Another order of memory, thus of additions.
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5 * float(expected.std()))


@pytest.mark.parametrize("name", checkpoints())
def test_a_mapped_encoder_gives_the_features_of_its_own_network(
    tmp_path: Path, originals: dict[str, tuple[Any, Any]], networks: Callable[[str], Any], name: str
) -> None:
    original, make = originals[name]
    path = tmp_path / "checkpoint.pth"
    content = make(original.state_dict())
    if name == "dino":
        content |= {"student": moco("", twice(dino_state(original), "", "")), "teacher": dino_state(original)}
    torch.save(content, path)

    key = "teacher" if name == "dino" else None
    found = layout_of(path, key)

    assert found is not None
    assert found.name == name.partition(",")[0]
    assert found.geometry == GEOMETRIES.get(found.name)
    assert_same_features(original, loaded(networks("resnet18"), path, key))


def test_a_model_that_hpo_wrote_is_one_with_its_own_transform(tmp_path: Path, networks: Callable[[str], Any]) -> None:
    original = headless(resnet18(), mlp(WIDTH, WIDTH, CLASSES))
    geometry = dataclasses.replace(IMAGENET, crop=64)
    metadata = {GEOMETRY_KEY: json.dumps(dataclasses.asdict(geometry))}
    save_file(original.state_dict(), tmp_path / "model.safetensors", metadata)

    found = resolve(ModelConfig(backbone="resnet18", weights=str(tmp_path / "model.safetensors")), None)

    assert found.geometry == geometry
    assert_same_features(
        lambda images: pooled(original, images), loaded(networks("resnet18"), tmp_path / "model.safetensors")
    )


def test_googles_second_simclr_without_selective_kernels_is_a_resnet_50(networks: Callable[[str], Any]) -> None:
    torch.manual_seed(0)
    original = trained(SimClrV2())
    state = original.state_dict()
    layout = recognise(state)
    assert layout is not None
    assert layout.name == "google-simclr"
    mapped = networks("resnet50")

    mapped.load_state_dict(in_torchvisions_names(state, layout))

    assert_same_features(original, lambda images: pooled(mapped, images))


def test_what_google_published_is_found_beside_its_head(tmp_path: Path) -> None:
    state = {key: torch.zeros(1) for key in SimClrV2().to("meta").state_dict()}
    torch.save({"resnet": state, "head": {"layers.0.weight": torch.zeros(1)}}, tmp_path / "r50_1x_sk0.pth")

    assert set(load_file(tmp_path / "r50_1x_sk0.pth")) == set(get_model("resnet50", weights=None).state_dict())


def stored(shapes: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return tensors of these shapes that share one storage, and thus take little room in a file."""
    shared = torch.zeros(max(one.numel() for one in shapes.values()))
    return {
        name: shared[: one.numel()].view(one.shape) if one.is_floating_point() else torch.zeros((), dtype=one.dtype)
        for name, one in shapes.items()
    }


def meta(make: Callable[[], nn.Module]) -> dict[str, Tensor]:
    with torch.device("meta"):
        return dict(make().state_dict())


def wide() -> nn.Module:
    network: nn.Module = get_model("resnet50", weights=None)
    network.conv1, network.bn1 = nn.Conv2d(3, 128, 7), nn.BatchNorm2d(128)
    return network


def small() -> nn.Module:
    network: nn.Module = get_model("resnet18", weights=None)
    network.conv1 = nn.Conv2d(3, 64, 3, bias=False)
    return network


def deep() -> nn.Module:
    network: nn.Module = get_model("resnet50", weights=None)
    network.conv1 = nn.Sequential(nn.Conv2d(3, 32, 3), nn.BatchNorm2d(32), nn.ReLU(), nn.Conv2d(32, 64, 3))
    return network


def of_lightly_for_small_images() -> nn.Module:
    network = get_model("resnet18", weights=None)
    parts = [nn.Conv2d(3, 64, 3), network.bn1, network.layer1, network.layer2, network.layer3, network.layer4]
    return Named(in_backbone, backbone=nn.Sequential(*parts))


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: SimClrV2(selective=True), "a ResNet with SimCLR v2's selective kernels, which torchvision's have not"),
        (lambda: SimClrV2(times=2), "a ResNet with 2x the width (wide_resnet50_2 is wider within its blocks alone)"),
        (lambda: Swav(wide()), "a ResNet with 2x the width"),
        (small, "a ResNet with a stem for small images (3x3 instead of 7x7)"),
        (deep, "a ResNet with a stem of several convolutions (ResNet-C, ResNet-D)"),
        (of_lightly_for_small_images, "a ResNet with a stem for small images"),
        (lambda: Named(in_backbone, backbone=get_model("resnet34", weights=None)), "(the file holds a ResNet-34)"),
        (lambda: get_model("resnet101", weights=None), "(the file holds a ResNet-101)"),
        (lambda: get_model("wide_resnet50_2", weights=None), "a ResNet-50 with 128 channels within its first blocks)"),
        (
            lambda: get_model("resnext50_32x4d", weights=None),
            "with 128 channels within its first blocks, in groups of 4",
        ),
    ],
)
def test_what_torchvision_cannot_express_is_refused_by_name(
    tmp_path: Path, networks: Callable[[str], Any], make: Callable[[], nn.Module], said: str
) -> None:
    path = tmp_path / "other.pth"
    torch.save(stored(meta(make)), path)

    with pytest.raises(InputError) as caught:
        loaded(networks("resnet50"), path)

    assert said in str(caught.value)
    assert "does not fit the backbone" in str(caught.value)


@pytest.mark.parametrize(
    ("parameters", "said"),
    [
        ({"maxpool1": False}, "a ResNet without max-pooling"),
        ({"first_conv": False, "maxpool1": True}, "with max-pooling behind a stem for small images"),
    ],
)
def test_first_layers_that_no_name_tells_are_refused_by_name(
    tmp_path: Path, parameters: dict[str, bool], said: str
) -> None:
    state = {f"encoder.{key}": value for key, value in stored(meta(lambda: get_model("resnet18"))).items()}
    torch.save({"state_dict": state, "hyper_parameters": parameters}, tmp_path / "stl10.ckpt")

    with pytest.raises(InputError, match=rf"{said}.*lightning-bolts"):
        load_file(tmp_path / "stl10.ckpt")


def test_lightning_bolts_networks_for_small_images_are_those_of_small(tmp_path: Path) -> None:
    original, network = (small_stem.get_model("resnet18-small").eval() for _ in range(2))
    state = {f"encoder.{key}": value for key, value in original.state_dict().items() if not key.startswith("fc.")}
    parameters = {"first_conv": False, "maxpool1": False, "dataset": "cifar10"}
    torch.save({"state_dict": state, "hyper_parameters": parameters}, tmp_path / "cifar.ckpt")

    mapped = loaded(network, tmp_path / "cifar.ckpt")

    assert_same_features(lambda images: pooled(original, images), mapped)


def test_a_small_network_is_not_given_images_as_a_large_one(tmp_path: Path) -> None:
    state = {f"encoder_q.{key}": value for key, value in small_stem.get_model("resnet18-small").state_dict().items()}
    torch.save({"state_dict": state}, tmp_path / "moco.pth")
    weights = str(tmp_path / "moco.pth")
    moco = next(layout for layout in LAYOUTS if layout.name == "moco")
    assert recognise(state) == moco

    found = resolve(ModelConfig(backbone="small:resnet18", weights=weights), None)

    assert found.geometry == small_stem.SMALL


def test_the_padding_of_solo_learns_networks_for_cifar_is_not_small_ones(tmp_path: Path) -> None:
    state = {
        f"module.backbone.{key}": value for key, value in small_stem.get_model("resnet18-small").state_dict().items()
    }
    beside = {"module.classifier.weight": torch.zeros(10, 512), "module.projector.0.weight": torch.zeros(8, 512)}
    torch.save({"state_dict": state | beside, "hyper_parameters": {}}, tmp_path / "cifar.ckpt")

    with pytest.raises(InputError, match="as solo-learn trains it on CIFAR, whose first convolution pads by 2"):
        load_file(tmp_path / "cifar.ckpt")


@pytest.mark.parametrize("name", [name for name in checkpoints() if name != "dino"])
@pytest.mark.parametrize("change", ["missing", "strange"])
def test_no_layout_is_loaded_in_part(
    tmp_path: Path, originals: dict[str, tuple[Any, Any]], networks: Callable[[str], Any], name: str, change: str
) -> None:
    original, make = originals[name]
    state = stored(original.state_dict())
    inner = next(key for key in state if key.endswith(("layer3.1.conv2.weight", "6.1.conv2.weight")))
    if change == "missing":
        del state[inner]
    else:
        state |= {inner.replace("conv2", "conv4"): torch.zeros(1), "stranger.weight": torch.zeros(1)}
    torch.save(make(state), tmp_path / "changed.pth")

    said = r"1 missing: layer3\.1\.conv2\.weight" if change == "missing" else r"2 unexpected: .*stranger\.weight"
    with pytest.raises(InputError, match=said):
        loaded(networks("resnet18"), tmp_path / "changed.pth")


def test_two_parts_that_would_have_one_name_are_refused(tmp_path: Path) -> None:
    state = stored(meta(lambda: get_model("resnet18")))
    torch.save(state | {f"module.{key}": value for key, value in state.items()}, tmp_path / "both.pth")

    with pytest.raises(InputError, match=r"conv1\.weight and module\.conv1\.weight both mean|both mean"):
        load_file(tmp_path / "both.pth")


ENCODER = tuple(name for name in meta(lambda: get_model("resnet18")) if not name.startswith("fc."))


@given(
    layout=st.sampled_from([layout for layout in LAYOUTS if layout.name != "google-simclr"]),
    wrappers=st.lists(st.sampled_from(("module.", "_orig_mod.")), max_size=4),
    inner=st.lists(st.sampled_from(("module.", "_orig_mod.")), max_size=2),
)
def test_wrappers_are_taken_off_in_any_order(layout: Layout, wrappers: list[str], inner: list[str]) -> None:
    beside = [f"{group[0]}weight" for group in layout.signs]
    named = [f"{layout.encoder}{''.join(inner)}{name}" for name in ENCODER]
    state = {f"{''.join(wrappers)}{name}": number for number, name in enumerate([*named, *beside])}

    found = recognise(state)

    assert found is not None
    assert found.name == layout.name
    mapped = in_torchvisions_names(state, found)
    assert {name: mapped[name] for name in ENCODER} == {name: number for number, name in enumerate(ENCODER)}


FRAGMENTS = st.sampled_from(
    (
        *("module", "encoder", "backbone", "net", "fc", "head", "0", "1", "4", "conv1", "layer1", "projection_head"),
        *("queue", "prototypes", "stranger", "blocks", "weight", "encoder_q", "_feature_blocks", "momentum_backbone"),
    )
)


@given(
    layout=st.sampled_from(LAYOUTS),
    parts=st.lists(st.lists(FRAGMENTS, min_size=1, max_size=5).map(".".join), max_size=12, unique=True),
)
def test_what_is_not_kept_is_what_the_layout_names(layout: Layout, parts: list[str]) -> None:
    state = {name: number for number, name in enumerate(parts)}
    try:
        kept = set(in_torchvisions_names(state, layout).values())
    except WeightsFileError:
        return  # Two of them have one name.

    for name, number in state.items():
        plain = ".".join(part for part in name.split(".")[:-1] if part != "module")
        plain = f"{plain}.{name.rpartition('.')[2]}".lstrip(".")
        inner = plain.removeprefix(layout.encoder)
        left_out = plain.startswith(layout.beside) or inner.startswith(layout.projection)
        assert number in kept or left_out


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_becomes_float32(tmp_path: Path, dtype: torch.dtype) -> None:
    network = resnet18()
    state = {
        key: value.to(dtype) if value.is_floating_point() else value for key, value in network.state_dict().items()
    }
    torch.save(state, tmp_path / "half.pth")
    save_file({key: value.clone() for key, value in state.items()}, tmp_path / "half.safetensors")

    for file in ("half.pth", "half.safetensors"):
        read = load_file(tmp_path / file)
        assert {value.dtype for value in read.values()} == {torch.float32, torch.int64}
        assert all(torch.equal(read[key], value.to(read[key].dtype)) for key, value in state.items())


@pytest.fixture
def several(tmp_path: Path) -> Path:
    """A checkpoint with the network that trained and its average."""
    state = stored(meta(lambda: get_model("resnet18")))
    path = tmp_path / "run#1.pth"
    torch.save({"model": state, "model_ema": OrderedDict(state), "optimizer": {"state": {}}, "epoch": 9}, path)
    return path


def test_of_several_state_dicts_the_user_chooses_and_the_study_records_it(several: Path) -> None:
    with pytest.raises(InputError) as caught:
        resolve(ModelConfig(backbone="resnet18", weights=str(several)), None)

    assert "several state dicts: model (122 tensors), model_ema (122 tensors)" in str(caught.value)
    assert "--weights 'FILE#model'" in str(caught.value)
    with pytest.raises(InputError, match=r"no state dict under teacher; it holds model \(122 tensors\)"):
        resolve(ModelConfig(backbone="resnet18", weights=f"{several}#teacher"), None)

    chosen = [
        resolve(ModelConfig(backbone="resnet18", weights=f"{several}#{key}"), None) for key in ("model", "model_ema")
    ]
    assert [one.weights_name for one in chosen] == [f"{several}#model", f"{several}#model_ema"]
    assert chosen[0].weights_sha256 == chosen[1].weights_sha256
    assert chosen[0] != chosen[1]
    assert backbones.build(chosen[1], 2, data_dir=None, seed=0).pretrained_sha256


def test_a_study_from_before_gets_the_state_dict_that_it_got(several: Path) -> None:
    recorded = ModelConfig(backbone="resnet18", weights=str(several), weights_name=str(several), geometry=IMAGENET)

    assert backbones.build(recorded, 2, data_dir=None, seed=0).pretrained_sha256


def test_a_hash_is_part_of_a_files_name_where_there_is_such_a_file(tmp_path: Path, several: Path) -> None:
    folder = tmp_path / "a#b"
    folder.mkdir()
    for name in ("plain.pth", "plain.pth#ema"):
        torch.save(stored(meta(lambda: get_model("resnet18"))), folder / name)

    assert file_and_key(str(several)) == (several, None)
    assert file_and_key(f"{several}#state#dict") == (several, "state#dict")
    assert file_and_key(str(folder / "plain.pth")) == (folder / "plain.pth", None)
    assert file_and_key(str(folder / "plain.pth#ema")) == (folder / "plain.pth#ema", None)
    assert file_and_key(str(folder / "plain.pth#model")) == (folder / "plain.pth", "model")
    assert file_and_key(str(folder / "absent.pth#model")) == (folder / "absent.pth#model", None)


def test_a_safetensors_file_has_no_keys(tmp_path: Path) -> None:
    save_file({"conv1.weight": torch.zeros(1)}, tmp_path / "plain.safetensors")

    with pytest.raises(InputError, match="holds one state dict, and none under model"):
        resolve(ModelConfig(backbone="resnet18", weights=f"{tmp_path / 'plain.safetensors'}#model"), None)


def test_a_layouts_transform_is_taken_unless_another_is_named(
    tmp_path: Path, originals: dict[str, tuple[Any, Any]], caplog: pytest.LogCaptureFixture
) -> None:
    original, make = originals["sthalles"]
    torch.save(make(stored(original.state_dict())), tmp_path / "sthalles.pth")
    config = ModelConfig(backbone="resnet18", weights=str(tmp_path / "sthalles.pth"))
    caplog.set_level("INFO")

    found = resolve(config, None).geometry

    assert found == GEOMETRIES["sthalles"]
    assert (found.crop, found.mean, found.std) == (96, (0.0,) * 3, (1.0,) * 3)
    assert (
        "a ResNet in the layout of sthalles/SimCLR; images are prepared as for its training: 96 px, mean 0, 0, 0"
        in caplog.text
    )
    assert resolve(config, None, "moco").geometry == IMAGENET
    with pytest.raises(InputError, match=r"known are .*simclr-stl10.*, google-simclr"):
        resolve(config, None, "google")


def test_a_module_of_ones_own_says_itself_what_it_takes(tmp_path: Path, originals: dict[str, tuple[Any, Any]]) -> None:
    original, make = originals["sthalles"]
    torch.save(make(stored(original.state_dict())), tmp_path / "sthalles.pth")

    found = resolve(ModelConfig(backbone="tests.tiny_backbone:tiny", weights=str(tmp_path / "sthalles.pth")), None)

    assert found.geometry == geometry_of(ModelConfig(backbone="tests.tiny_backbone:tiny"))


def test_a_study_from_before_keeps_the_transform_that_it_recorded(
    tmp_path: Path, originals: dict[str, tuple[Any, Any]]
) -> None:
    original, make = originals["sthalles"]
    torch.save(make(stored(original.state_dict())), tmp_path / "sthalles.pth")
    config = ModelConfig(backbone="resnet18", weights=str(tmp_path / "sthalles.pth"))
    now = resolve(config, None)
    before = dataclasses.replace(now, geometry=IMAGENET)

    assert resolve(config, None, None, before) == before
    assert resolve(config, None, "sthalles", before) == now
    assert resolve(dataclasses.replace(config, image_size=48), None, None, before).geometry == dataclasses.replace(
        GEOMETRIES["sthalles"], resize=48, crop=48
    )
    torch.save(make(stored(original.state_dict())) | {"epoch": 41}, tmp_path / "sthalles.pth")
    assert resolve(config, None, None, before).geometry == GEOMETRIES["sthalles"]


def test_names_that_decide_no_transform_leave_it_to_the_backbone(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for prefix in ("", "backbone.", "encoder."):
        state = {f"{prefix}{key}": value for key, value in stored(meta(lambda: get_model("resnet18"))).items()}
        torch.save(state, tmp_path / "plain.pth")

        resolve(ModelConfig(backbone="resnet18", weights=str(tmp_path / "plain.pth")), None)

        assert "the file does not say how its images were prepared" in caplog.text
        caplog.clear()


def test_a_backbone_of_ones_own_gets_its_own_names_as_they_are(tmp_path: Path) -> None:
    state = {"encoder.conv1.weight": torch.ones(1), "encoder.layer1.0.conv1.weight": torch.ones(1)}
    torch.save(state, tmp_path / "own.pth")

    assert list(load_file(tmp_path / "own.pth", own=state)) == list(state)
    assert list(load_file(tmp_path / "own.pth", own=["conv1.weight"])) == ["conv1.weight", "layer1.0.conv1.weight"]


def test_numbers_of_another_sequence_are_no_resnets() -> None:
    assert recognise(["0.weight", "1.weight", "3.0.conv1.weight", "4.0.conv1.weight"]) is not None
    assert recognise(["0.weight", "1.weight", "2.0.conv1.weight", "3.0.conv1.weight"]) is None
