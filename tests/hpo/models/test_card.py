"""The model card says what a model is, whatever names people gave."""

import json
import re

import pytest

from hpo.ledger.studies import open_study
from hpo.models.card import card
from hpo.paths import StudyPaths
from trainables.config import ModelConfig
from trainables.inference.description import describe
from trainables.networks.heads import new_head


def text_of(study: StudyPaths) -> str:
    return (study.final / "README.md").read_text("utf-8")


def rows_of(text: str) -> dict[str, str]:
    return dict(re.findall(r"^\| ([^|]+) \| ([^|]+) \|$", text, re.MULTILINE))


def test_a_card_has_data_result_configuration_licence_and_limits(published: StudyPaths) -> None:
    text = text_of(published)
    rows, metrics = rows_of(text), json.loads((published.final / "metrics.json").read_text("utf-8"))
    low, high = metrics["test_accuracy_ci95"]

    assert f"{metrics['test_accuracy']:.4f} (95 % interval {low:.4f} to {high:.4f}" in text
    assert (rows["images to train on"], rows["held-out test images"]) == ("12", "4")
    assert rows["images to validate with"] == "4 (drawn from the training split, 0.25 of each class)"
    assert rows["classes"] == "2: china, flower"
    assert rows["orientation"] == "turned upright by EXIF"
    assert (rows["freeze\\_mode"], rows["head"]) == ("none", "linear")
    assert (rows["source"], rows["licence"][:14]) == ("random values", "none is needed")
    assert "## Limits" in text
    assert "`hpo predict study IMAGE`" in text


def test_a_card_of_ones_own_backbone_says_what_else_is_needed(own: StudyPaths) -> None:
    assert "and your module tests.tiny\\_backbone; `hpo export study --model torch-export`" in text_of(own)


def test_names_are_shown_as_they_are(own: StudyPaths) -> None:
    ledger = open_study(f"sqlite:///{own.studies / 'optuna.db'}", "study")
    assert ledger.final is not None
    odd = ("<script>alert(1)</script>", "a|b", "*x*", "caf\\xe9")
    described = describe(new_head("linear", 4, 4, None), ModelConfig(backbone="resnet18"), "turn", odd)

    text = card(ledger, ledger.records()[0], ledger.final | {"test_looks": 3}, described, own)

    assert "<script>" not in text
    assert "4: \\<script\\>alert(1)\\</script\\>, a\\|b, \\*x\\*, caf\\\\xe9" in text
    assert "looked at 3 times" in text
    # This head alone is no ResNet.
    assert "no few lines build it" in text


@pytest.mark.parametrize(
    ("config", "source", "licence"),
    [
        (
            ModelConfig(backbone="resnet50"),
            "ResNet50_Weights.IMAGENET1K_V2, https://download.pytorch.org",
            "states none",
        ),
        (ModelConfig(backbone="simclr"), "simclr-imagenet, https://download.openmmlab.com", "Apache-2.0"),
        (ModelConfig(backbone="simclr", weights="simclr-stl10"), "simclr-stl10, https://drive", "MIT"),
        (
            ModelConfig(backbone="torchvision:vit_b_16", weights="x", weights_name="IMAGENET1K_SWAG_E2E_V1"),
            "ViT_B_16_Weights.IMAGENET1K_SWAG_E2E_V1",
            "CC-BY-NC 4.0 (https://github.com/facebookresearch/SWAG",
        ),
        (ModelConfig(backbone="vgg", weights="./mine.pth", weights_name="/x/mine.pth"), "./mine.pth", "does not know"),
        (ModelConfig(backbone="vgg", weights="none"), "random values", "none is needed"),
    ],
)
def test_weights_have_their_source_and_licence(config: ModelConfig, source: str, licence: str) -> None:
    described = describe(new_head("linear", 4, 2, None), config, "ignore", ("a", "b"))

    assert source in described.origin
    assert licence in described.licence
