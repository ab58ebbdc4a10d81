"""The final model: trained on all labelled images, its weights averaged, whole after an interruption."""

import dataclasses
import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from torch import nn

from trainables.config import (
    DataConfig,
    EpochResult,
    FreezeMode,
    MachineConfig,
    ModelConfig,
    TrainedModel,
    TrialConfig,
)
from trainables.networks.published import GEOMETRY_KEY
from trainables.training.epoch import evaluate, new_learner
from trainables.training.held_out_evaluation import look_at_test
from trainables.training.retraining import WeightMean, load, recompute_batch_norm, retrain
from trainables.training.trial import begin

RATES = [3e-3, 3e-3, 1e-3, 3e-4]


def config(folder: Path, mode: FreezeMode = "none") -> TrialConfig:
    return TrialConfig(
        data=DataConfig(dataset="digits"),
        model=ModelConfig(backbone="tests.tiny_backbone:tiny", image_size=16, precision="fp32"),
        learning_rate=3e-3,
        batch_size=64,
        epochs=len(RATES),
        freeze_mode=mode,
        seed=5,
        machine=MachineConfig(data_dir=str(folder)),
    )


def parts(items: Iterator[EpochResult | TrainedModel]) -> tuple[list[EpochResult], TrainedModel]:
    epochs: list[EpochResult] = []
    for item in items:
        if isinstance(item, TrainedModel):
            return epochs, item
        epochs.append(item)
    raise AssertionError("no model came")


@pytest.mark.parametrize(("mode", "least"), [("none", 0.8), ("partial", 0.5), ("backbone", 0.5)])
def test_a_retrain_replays_the_rates_and_scores_well(tmp_path: Path, mode: FreezeMode, least: float) -> None:
    epochs, trained = parts(retrain(config(tmp_path, mode), "train+val", RATES))

    seen = look_at_test(load(config(tmp_path, mode), trained))

    assert [result.learning_rate for result in epochs] == RATES
    assert all(math.isnan(result.val_accuracy) for result in epochs)
    assert trained.is_finite
    assert trained.accuracy > least
    assert (seen.labels == seen.predicted).mean() > least
    assert len(seen.ids) == 360


def test_a_retrain_on_the_training_split_leaves_validation_alone(tmp_path: Path) -> None:
    _, data = begin(config(tmp_path))
    _, trained = parts(retrain(config(tmp_path), "train", RATES))
    learned = load(config(tmp_path), trained)

    assert trained.accuracy == evaluate(learned, data.examples, data.splits.train).accuracy


@pytest.mark.parametrize("mode", ["none", "partial", "backbone"])
def test_an_interrupted_retrain_ends_in_the_same_model(tmp_path: Path, mode: FreezeMode) -> None:
    saved: list[bytes] = []
    epochs, whole = parts(retrain(config(tmp_path, mode), "train+val", RATES, save=saved.append))

    for state in saved[1:]:
        again, resumed = parts(retrain(config(tmp_path, mode), "train+val", RATES, resume_from=state))
        assert resumed.model == whole.model
        assert [result.train_loss for result in again] == [result.train_loss for result in epochs]


def test_the_model_carries_its_transform(tmp_path: Path) -> None:
    _, trained = parts(retrain(config(tmp_path), "train+val", RATES))
    path = tmp_path / "model.safetensors"
    path.write_bytes(trained.model)

    with safe_open(path, "pt") as file:
        carried: dict[str, Any] = json.loads(file.metadata()[GEOMETRY_KEY])

    geometry = new_learner(config(tmp_path), 10).geometry
    assert {**carried, "mean": tuple(carried["mean"]), "std": tuple(carried["std"])} == dataclasses.asdict(geometry)


def test_the_mean_is_that_of_the_epochs_it_was_given() -> None:
    parameter = nn.Parameter(torch.tensor([100.0]))
    mean = WeightMean([parameter])
    for value in (1.0, 2.0, 6.0):
        parameter.data.fill_(value)
        mean.add()
        state = mean.state_dict()
        mean = WeightMean([parameter])
        mean.load_state_dict(state)

    mean.put_back()

    assert parameter.item() == pytest.approx(3.0)


@pytest.mark.parametrize("mode", ["none", "partial"])
def test_batch_norm_is_computed_anew_where_it_trains_and_nowhere_else(tmp_path: Path, mode: FreezeMode) -> None:
    learner, data = begin(config(tmp_path, mode))
    before = {name: value.clone() for name, value in learner.network.model.state_dict().items()}

    recompute_batch_norm(learner, data.examples, data.splits.train)

    changed = {
        name for name, value in learner.network.model.state_dict().items() if not torch.equal(value, before[name])
    }
    statistics = {name for name in before if "running" in name or "num_batches" in name}
    assert changed == (statistics if mode == "none" else set())
    assert all(layer.momentum == 0.1 for layer in learner.network.model.modules() if isinstance(layer, nn.BatchNorm2d))
