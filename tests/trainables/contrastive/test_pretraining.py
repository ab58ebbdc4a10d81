"""A whole pretraining: interrupted, without labels, collapsed; and its encoder in use."""

import dataclasses
import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load

from tests import pretraining as small
from trainables.config import ModelConfig
from trainables.contrastive import pretraining
from trainables.contrastive.config import PretrainConfig, PretrainedEncoder, PretrainEpoch, view_geometry
from trainables.contrastive.pretraining import features, new_learner, open_pretrain_data, pretrain
from trainables.data.transforms import normalise
from trainables.errors import InputError
from trainables.networks.backbones import build
from trainables.networks.identity import resolve
from trainables.training.checkpoint import CheckpointError


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small.write_images(tmp_path_factory.mktemp("pretrain") / "images")


@dataclasses.dataclass
class Run:
    epochs: list[PretrainEpoch]
    encoder: PretrainedEncoder
    states: list[bytes]


def run(config: PretrainConfig, folder: Path, resume_from: bytes | None = None) -> Run:
    states: list[bytes] = []
    *epochs, encoder = pretrain(config, small.machine(folder), resume_from=resume_from, save=states.append)
    assert isinstance(encoder, PretrainedEncoder)
    return Run([epoch for epoch in epochs if isinstance(epoch, PretrainEpoch)], encoder, states)


@pytest.fixture(scope="module")
def undisturbed(folder: Path) -> Run:
    return run(small.config(folder), folder)


def numbers(epoch: PretrainEpoch) -> dict[str, Any]:
    """All but what the clock says."""
    return {name: value for name, value in vars(epoch).items() if name not in ("seconds", "images_per_second")}


def tensors(made: Run) -> dict[str, torch.Tensor]:
    return load(made.encoder.encoder)


def assert_same_encoder(one: Run, other: Run) -> None:
    for name, values in tensors(one).items():
        assert torch.equal(values, tensors(other)[name]), name


def test_it_learns_to_tell_images_from_each_other(undisturbed: Run) -> None:
    first, *_, last = undisturbed.epochs

    assert [one.epoch for one in undisturbed.epochs] == [1, 2, 3]
    assert last.loss < first.loss
    assert [one.knn_accuracy is None for one in undisturbed.epochs] == [True, False, False]
    assert -8 < last.uniformity < -0.1
    assert len(undisturbed.states) == 3


def test_one_that_continues_after_any_epoch_gives_the_same_numbers(undisturbed: Run, folder: Path) -> None:
    resumed = run(small.config(folder), folder, undisturbed.states[1])

    assert [numbers(one) for one in resumed.epochs] == [numbers(one) for one in undisturbed.epochs]
    assert_same_encoder(resumed, undisturbed)
    assert resumed.encoder.random_knn_accuracy == undisturbed.encoder.random_knn_accuracy
    assert len(resumed.states) == 1


def test_neither_labels_nor_validation_images_are_learned_from(
    undisturbed: Run, folder: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    data = open_pretrain_data(small.config(folder), small.machine(folder))
    shuffled = torch.randint(2, (len(data.labels),), generator=torch.Generator().manual_seed(0))
    pixels = np.array(data.pixels)
    pixels[data.splits.validation] = 0
    other = dataclasses.replace(data, labels=shuffled, pixels=pixels)
    monkeypatch.setattr(pretraining, "open_pretrain_data", lambda *_: other)

    with caplog.at_level(logging.WARNING):
        made = run(small.config(folder), folder)

    assert_same_encoder(made, undisturbed)
    assert made.epochs[-1].knn_accuracy != undisturbed.epochs[-1].knn_accuracy
    # Nor is a collapse seen where there is none.
    assert not caplog.records


@pytest.mark.parametrize("changes", [{"learning_rate": 1e-3}, {"seed": 1}, {"temperature": 0.1}])
def test_another_configurations_state_is_refused_by_name(
    undisturbed: Run, folder: Path, changes: dict[str, float]
) -> None:
    with pytest.raises(CheckpointError, match=f"begun with {next(iter(changes))}"):
        run(small.config(folder, **changes), folder, undisturbed.states[0])


def test_a_torn_state_is_refused(undisturbed: Run, folder: Path) -> None:
    with pytest.raises(CheckpointError, match="cannot be read"):
        run(small.config(folder), folder, undisturbed.states[0][:1000])


def test_a_batch_beyond_the_images_is_refused(folder: Path) -> None:
    with pytest.raises(InputError, match="has 24 images"):
        run(small.config(folder, batch_size=31), folder)


def test_only_resnets_are_pretrained(folder: Path) -> None:
    with pytest.raises(InputError, match="--arch vgg11: SimCLR pretrains torchvision's ResNets: resnet101"):
        run(small.config(folder, backbone="torchvision:vgg11"), folder)


@pytest.mark.parametrize("of", ["the projections", "the encoder"])
def test_a_collapse_is_said_once(
    folder: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, of: str
) -> None:
    config = small.config(folder, epochs=2, learning_rate=1e-12, warmup_epochs=0)

    class OnePoint(torch.nn.Module):
        """An encoder of which nothing is left but noise: batch norm behind it spreads that over the sphere."""

        def forward(self, images: torch.Tensor) -> torch.Tensor:
            noise = torch.randn(len(images), 512, generator=torch.Generator().manual_seed(len(images)))
            return 1 + 1e-3 * noise

    def collapsed(*arguments: Any) -> Any:
        learner = new_learner(*arguments)
        if of == "the encoder":
            learner.network.encoder = OnePoint()
            return learner
        with torch.no_grad():
            learner.network.get_parameter("head.4.weight").zero_()
            learner.network.get_parameter("head.4.bias").fill_(1)
        return learner

    monkeypatch.setattr(pretraining, "new_learner", collapsed)
    with caplog.at_level(logging.WARNING):
        run(config, folder)

    said = [record.getMessage() for record in caplog.records]
    assert len(said) == 1
    assert said[0].startswith("the embeddings have collapsed in epoch 1: images cannot be told apart (uniformity ")


def test_the_encoder_is_taken_as_weights_with_its_preprocessing(undisturbed: Run, folder: Path, tmp_path: Path) -> None:
    path = tmp_path / "encoder.safetensors"
    path.write_bytes(undisturbed.encoder.encoder)
    asked = ModelConfig(backbone="small:resnet18", weights=str(path), head="linear")

    found = resolve(asked, str(tmp_path))
    network = build(found, 2, data_dir=None, seed=0)

    assert found.geometry == view_geometry(8)
    learner = new_learner(small.config(folder), small.machine(folder))
    learner.network.encoder.load_state_dict(tensors(undisturbed))
    data = open_pretrain_data(small.config(folder), small.machine(folder))
    own = features(learner, data.pixels, np.arange(3))
    images = normalise(torch.from_numpy(np.array(data.pixels[:3])), view_geometry(8))
    network.model.set_submodule("fc", torch.nn.Identity())
    with torch.inference_mode():
        assert torch.allclose(network.model.eval()(images), own, atol=1e-6)
    with safe_open(path, "pt") as file:
        assert file.metadata().keys() == {"geometry", "pretraining", "pretraining_result"}


def test_the_encoder_says_of_how_many_images_batch_norm_took_its_statistics(folder: Path, tmp_path: Path) -> None:
    machine = small.machine(folder)
    parts = dataclasses.replace(machine, machine=dataclasses.replace(machine.machine, micro_batch=5))
    *_, made = pretrain(small.config(folder, epochs=1), parts)
    assert isinstance(made, PretrainedEncoder)
    path = tmp_path / "encoder.safetensors"
    path.write_bytes(made.encoder)

    with safe_open(path, "pt") as file:
        assert file.metadata()["micro_batch"] == "5"


def test_a_file_of_the_other_stem_says_which_backbone_it_is_of(undisturbed: Run, tmp_path: Path) -> None:
    path = tmp_path / "encoder.safetensors"
    path.write_bytes(undisturbed.encoder.encoder)

    with pytest.raises(InputError, match="give --backbone small:resnet18"):
        build(ModelConfig(backbone="resnet18", weights=str(path)), 2, data_dir=None, seed=0)
