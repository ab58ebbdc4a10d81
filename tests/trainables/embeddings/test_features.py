"""Features: what the network's own layers give, found in the store that trials fill, in batches that fit."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch
from torchvision.models import get_model

from trainables.config import DataConfig, MachineConfig, ModelConfig, TrialConfig
from trainables.data.datasets import training_images
from trainables.data.transforms import normalise
from trainables.embeddings.features import backbone_network, features_of
from trainables.errors import InputError
from trainables.networks.identity import geometry_of
from trainables.training import feature_store
from trainables.training.trial import begin

DIGITS = DataConfig(dataset="digits")
TINY = ModelConfig(backbone="tests.tiny_backbone:tiny", image_size=16, precision="fp32")


def test_features_are_what_torchvisions_layers_give_in_front_of_the_last(tmp_path: Path) -> None:
    config = ModelConfig(backbone="torchvision:squeezenet1_1", weights="none", image_size=32, precision="fp32")
    images = training_images(DIGITS, str(tmp_path)).subset(np.arange(70))
    network = backbone_network(config, str(tmp_path), seed=1)

    found = features_of(network, config, images, MachineConfig(data_dir=str(tmp_path)))

    original = get_model("squeezenet1_1").eval()
    original.load_state_dict(network.model.state_dict(), strict=False)
    with torch.inference_mode():
        pixels = normalise(torch.from_numpy(np.array(found.pixels)), geometry_of(config))
        expected = original.features(pixels).mean(dim=(2, 3)).numpy()
    assert found.values.shape == (70, 512)
    assert found.values.dtype == np.float32
    np.testing.assert_allclose(found.values, expected, rtol=1e-4, atol=1e-5)


def test_what_a_frozen_trial_has_left_in_the_store_is_not_computed_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine = MachineConfig(data_dir=str(tmp_path))
    trial = TrialConfig(
        data=DIGITS,
        model=TINY,
        freeze_mode="backbone",
        learning_rate=1e-3,
        batch_size=50,
        epochs=1,
        machine=machine,
    )
    _, data = begin(trial)
    monkeypatch.setattr(feature_store, "_build", None)

    found = features_of(backbone_network(TINY, None, 0), TINY, training_images(DIGITS, str(tmp_path)), machine)

    np.testing.assert_array_equal(found.values, data.examples.inputs)


def test_batches_are_halved_where_memory_is_short(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    images = training_images(DIGITS, str(tmp_path)).subset(np.arange(40))
    machine = MachineConfig(data_dir=str(tmp_path))
    forward = feature_store._features
    most = 16

    def short(*given: object) -> torch.Tensor:
        if len(given[3]) > most:  # type: ignore[arg-type]
            raise torch.OutOfMemoryError
        return forward(*given)  # type: ignore[arg-type]

    monkeypatch.setattr(feature_store, "_features", short)

    found = features_of(backbone_network(TINY, None, 0), TINY, images, machine)

    assert found.values.shape == (40, 64)
    most = 0
    with pytest.raises(InputError, match="not even one image fits"):
        features_of(backbone_network(TINY, None, 0), TINY, images.subset(np.arange(30)), machine)


def test_features_beyond_the_store_are_refused(tmp_path: Path) -> None:
    images = training_images(DIGITS, str(tmp_path)).subset(np.arange(40))
    small = dataclasses.replace(MachineConfig(data_dir=str(tmp_path)), cache_bytes=1000)

    with pytest.raises(InputError, match="--cache-size"):
        features_of(backbone_network(TINY, None, 0), TINY, images, small)
