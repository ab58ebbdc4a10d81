"""A pretraining as a trainable: the same numbers as the pretraining itself, and the options of `hpo pretrain`."""

import dataclasses
from pathlib import Path
from typing import Any

import pytest

from hpo.api.pretraining import PretrainImages, PretrainOptions
from tests import pretraining as small
from trainables import trainable
from trainables.config import DataConfig, ModelConfig, TrainableConfig
from trainables.contrastive.config import PretrainEpoch, PretrainMachine, composed, stored_geometry, usual
from trainables.contrastive.pretraining import pretrain
from trainables.contrastive.trial import encoder_of, pretrain_config, with_stored_images
from trainables.errors import InputError
from trainables.training.checkpoint import CheckpointError

PARAMS: dict[str, Any] = {
    **{"temperature": 0.3, "learning_rate": 1e-2, "batch_size": 10, "strength": 0.5, "min_crop": 0.4, "flip": False},
    **{"epochs": 3, "warmup_epochs": 1.0, "projection": 16},
}
DIGITS = DataConfig(dataset="digits")


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> TrainableConfig:
    folder = small.write_images(tmp_path_factory.mktemp("trial") / "images")
    plain, machine = small.config(folder), small.machine(folder)
    model = ModelConfig(backbone="small:resnet18", weights="none", image_size=8, precision="fp32")
    return TrainableConfig(data=plain.data, model=model, params=PARAMS, seed=5, machine=machine.machine)


def test_its_results_are_those_of_the_pretraining_also_after_an_interruption(
    config: TrainableConfig, tmp_path: Path
) -> None:
    machine = PretrainMachine(machine=config.machine)
    epochs = [one for one in pretrain(pretrain_config(config), machine) if isinstance(one, PretrainEpoch)]
    states: list[bytes] = []

    running = trainable.run("simclr-pretrain", config, save=states.append)
    results = [next(running) for _ in range(3)]
    resumed = trainable.run("simclr-pretrain", config, resume_from=states[0])
    again = [next(resumed) for _ in range(3)]

    for result, repeated, one in zip(results, again, epochs, strict=True):
        assert result.val_accuracy == repeated.val_accuracy == one.knn_accuracy
        assert result.train_loss == repeated.train_loss == one.loss
        assert dict(result.extra) == dict(repeated.extra)
        assert dict(result.extra) == {"top1": one.top1, "alignment": one.alignment, "uniformity": one.uniformity}
        assert result.val_loss is None
    other = dataclasses.replace(config, params={**PARAMS, "temperature": 0.2})
    begun = trainable.run("simclr-pretrain", other, resume_from=states[0])
    with pytest.raises(CheckpointError, match=r"temperature 0\.3 instead of 0\.2"):
        next(begun)


def test_what_a_space_leaves_out_is_as_in_hpo_pretrain() -> None:
    options = {**vars(PretrainImages()), **vars(PretrainOptions())}
    stated = {name: options[name] for name in usual(224) if options[name] is not None}
    large = composed(DIGITS, "torchvision:resnet18", 224, {}, knn_every=1, precision="auto", seed=0)

    assert stated.items() <= usual(224).items()
    assert stated.items() <= usual(32).items()
    assert large == composed(DIGITS, "torchvision:resnet18", 224, options, knn_every=1, precision="auto", seed=0)
    assert (large.learning_rate, large.scaling, large.views.blur) == (1e-3, "sqrt", 0.5)


@pytest.mark.parametrize(
    ("backbone", "size", "dataset", "expected"),
    [
        ("resnet18", None, "digits", ("small:resnet18", 32)),
        ("resnet18", None, "pets", ("torchvision:resnet18", 224)),
        ("simclr", 64, "pets", ("small:resnet50", 64)),
        ("torchvision:resnet34", 32, "digits", ("torchvision:resnet34", 32)),
        ("small:wide_resnet50_2", 128, "pets", ("small:wide_resnet50_2", 128)),
    ],
)
def test_a_backbone_is_the_encoder_of_hpo_pretrain(
    backbone: str, size: int | None, dataset: str, expected: tuple[str, int]
) -> None:
    found = encoder_of(ModelConfig(backbone=backbone, image_size=size), DataConfig(dataset=dataset))

    assert (found.backbone, found.image_size) == expected
    assert found.weights == "none"
    assert with_stored_images(found).geometry == stored_geometry(expected[1])


@pytest.mark.parametrize(
    ("model", "data", "said"),
    [
        ({"backbone": "vit"}, {}, "--backbone vit: SimCLR pretrains torchvision's ResNets"),
        ({"backbone": "own.module:net"}, {}, "--backbone own.module:net: SimCLR pretrains"),
        ({"backbone": "resnet18", "weights": "a.pt"}, {}, "--weights a.pt: simclr-pretrain begins with random values"),
        ({"backbone": "resnet18"}, {"label_fraction": 0.1}, "--label-fraction 0.1: labels train nothing"),
        ({"backbone": "resnet18"}, {"augment": "standard"}, "--augment standard: simclr-pretrain makes views"),
    ],
)
def test_what_cannot_be_pretrained_is_refused(model: dict[str, Any], data: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError, match=said):
        encoder_of(ModelConfig(**model), dataclasses.replace(DIGITS, **data))
