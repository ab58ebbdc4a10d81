"""What a backbone and its weights are: each its own transform, each known again by its digest."""

import dataclasses
import json
import math
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torchvision.models import get_model, get_model_weights

from trainables.config import Geometry, ModelConfig
from trainables.errors import InputError
from trainables.networks import backbones
from trainables.networks.identity import geometry_of, resolve, verify
from trainables.networks.published import GEOMETRY_KEY, PUBLISHED, embedded_geometry, named_geometry

OWN = Geometry(resize=40, crop=36, interpolation="bicubic", mean=(0.1, 0.2, 0.3), std=(0.4, 0.5, 0.6))


@pytest.fixture
def squeezenet(tmp_path: Path) -> Path:
    """A weights file of random values, small and quickly read."""
    path = tmp_path / "squeezenet.safetensors"
    save_file(get_model("squeezenet1_1", weights=None).state_dict(), path)
    return path


def model(path: Path, **changes: Any) -> ModelConfig:
    return dataclasses.replace(ModelConfig(backbone="torchvision:squeezenet1_1", weights=str(path)), **changes)


@pytest.mark.parametrize(
    ("architecture", "name"),
    [("resnet50", "IMAGENET1K_V1"), ("resnet50", "IMAGENET1K_V2"), ("vit_b_16", "IMAGENET1K_SWAG_E2E_V1")],
)
def test_each_of_torchvisions_weights_has_its_own_transform(architecture: str, name: str) -> None:
    preset = get_model_weights(architecture)[name].transforms()

    found = named_geometry(architecture, name)

    assert (found.resize, found.crop) == (preset.resize_size[0], preset.crop_size[0])
    assert found.interpolation == preset.interpolation.value


def test_the_weights_decide_the_transform_and_not_the_architectures_default() -> None:
    assert named_geometry("resnet50", "IMAGENET1K_V1").resize == 256
    assert named_geometry("resnet50", "default").resize == 232
    assert named_geometry("vit_b_16", "IMAGENET1K_SWAG_E2E_V1").crop == 384


def test_the_papers_encoder_takes_96_pixels_from_0_to_1() -> None:
    stl10 = PUBLISHED["simclr-stl10"].geometry

    assert (stl10.crop, stl10.mean, stl10.std) == (96, (0.0,) * 3, (1.0,) * 3)


def test_a_file_takes_the_transform_that_it_carries(squeezenet: Path, tmp_path: Path) -> None:
    carrying = tmp_path / "carrying.safetensors"
    metadata = {GEOMETRY_KEY: json.dumps(dataclasses.asdict(OWN))}
    save_file(get_model("squeezenet1_1", weights=None).state_dict(), carrying, metadata)

    assert embedded_geometry(carrying) == OWN
    assert embedded_geometry(squeezenet) is None
    assert resolve(model(carrying), None).geometry == OWN
    assert geometry_of(resolve(model(carrying, image_size=72), None)) == dataclasses.replace(OWN, resize=80, crop=72)


def test_a_file_that_carries_no_transform_takes_the_one_that_is_named(
    squeezenet: Path, caplog: pytest.LogCaptureFixture
) -> None:
    assert resolve(model(squeezenet), None, "simclr-stl10").geometry == PUBLISHED["simclr-stl10"].geometry
    assert not caplog.records

    by_default = resolve(model(squeezenet), None)

    assert by_default.geometry == named_geometry("squeezenet1_1", "default")
    assert "--geometry-of names others" in caplog.text


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"resize": "large"}, "resize"),
        ({"interpolation": "cubic"}, "interpolation is 'cubic', not bilinear or bicubic"),
        ({"crop": 0}, "a crop of 0 px is not within"),
        ({"crop": OWN.resize + 1}, "is not within"),
        ({"std": [0.2, 0.0, 0.2]}, "a std not above 0"),
        ({"mean": [0.2, math.nan, 0.2]}, "a mean is no number"),
    ],
)
def test_a_transform_that_is_none_is_said(tmp_path: Path, changes: dict[str, Any], said: str) -> None:
    broken = tmp_path / "broken.safetensors"
    save_file({"a": torch.zeros(1)}, broken, {GEOMETRY_KEY: json.dumps(dataclasses.asdict(OWN) | changes)})

    with pytest.raises(InputError, match=rf"its metadata's 'geometry' is no transform \((?s:.*){said}"):
        embedded_geometry(broken)


def test_a_transform_that_has_no_name_is_said(squeezenet: Path) -> None:
    with pytest.raises(InputError, match="--geometry-of IMAGENET9: no such weights"):
        resolve(model(squeezenet), None, "IMAGENET9")
    with pytest.raises(InputError, match="only for a file's weights"):
        resolve(ModelConfig(backbone="resnet18", weights="none"), None, "simclr-stl10")


def test_a_study_of_the_first_version_keeps_the_default_weights_transform() -> None:
    before = ModelConfig(backbone="resnet50", weights="IMAGENET1K_V1", image_size=112)

    assert geometry_of(before) == Geometry(
        resize=116,
        crop=112,
        interpolation="bilinear",
        mean=named_geometry("resnet50", "default").mean,
        std=named_geometry("resnet50", "default").std,
    )


def test_a_network_for_larger_images_is_built_for_them(tmp_path: Path) -> None:
    state = get_model("vit_b_32", weights=None, image_size=96).state_dict()
    metadata = {GEOMETRY_KEY: json.dumps(dataclasses.asdict(dataclasses.replace(OWN, resize=96, crop=96)))}
    save_file(state, tmp_path / "vit.safetensors", metadata)

    found = resolve(ModelConfig(backbone="vit", weights=str(tmp_path / "vit.safetensors")), None)
    network = backbones.build(found, 3, data_dir=None, seed=0)

    position = "encoder.pos_embedding"
    assert torch.equal(network.model.state_dict()[position], state[position])


def test_another_weights_file_under_the_same_name_is_noticed(squeezenet: Path) -> None:
    found = resolve(model(squeezenet), None)
    verify(found, None)
    torch.manual_seed(1)

    save_file(get_model("squeezenet1_1", weights=None).state_dict(), squeezenet)
    with pytest.raises(InputError, match="not the one that the study was started with"):
        verify(found, None)
    squeezenet.unlink()
    with pytest.raises(InputError, match="there is no such file"):
        verify(found, None)


def test_a_users_backbone_that_was_edited_is_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = Path(__file__).parents[2] / "tiny_backbone.py"
    monkeypatch.syspath_prepend(tmp_path)
    shutil.copy(source, tmp_path / "edited_backbone.py")
    found = resolve(ModelConfig(backbone="edited_backbone:tiny", image_size=16), None)
    verify(found, None)

    with (tmp_path / "edited_backbone.py").open("a", encoding="utf-8") as file:
        file.write("# another network\n")

    with pytest.raises(InputError, match=r"the file of edited_backbone is not what the study"):
        verify(found, None)
