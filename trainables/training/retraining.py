"""The retrain of a configuration that was chosen: on all labelled images, or as its trial was."""

import copy
import dataclasses
from collections.abc import Iterator, Sequence

import numpy as np
from safetensors.torch import save as to_safetensors
from torch.optim.lr_scheduler import ReduceLROnPlateau

from trainables.config import EpochResult, TrialConfig
from trainables.training.epoch import Learner, new_learner
from trainables.training.feature_store import with_features
from trainables.training.trial import TrainingData, open_training_data, run_epoch


def begin(config: TrialConfig) -> tuple[Learner, TrainingData]:
    """Return an untrained learner and the data of its study.

    Raises:
        InputError: The data, the backbone or its weights cannot be used.
    """
    data = open_training_data(config)
    learner, examples = with_features(new_learner(config, len(data.classes)), data.examples)
    return learner, dataclasses.replace(data, examples=examples)


def train_on_all(learner: Learner, data: TrainingData, learning_rates: Sequence[float]) -> Iterator[EpochResult]:
    """Train on training and validation images together, one epoch for each of `learning_rates`.

    No image is left to drive the schedule, so the rates are those of the trial that chose the configuration.
    """
    labelled = np.concatenate([data.splits.train, data.splits.validation])
    for epoch, learning_rate in enumerate(learning_rates, start=1):
        for group in learner.optimizer.param_groups:
            group["lr"] = learning_rate
        yield run_epoch(learner, data.examples, labelled, labelled[:0], epoch)


def train_with_validation(learner: Learner, data: TrainingData) -> Iterator[EpochResult]:
    """Train as the trial did, the schedule driven by validation; the learner is left at its best epoch."""
    schedule = ReduceLROnPlateau(learner.optimizer)
    model, best, weights = learner.network.model, -1.0, {}
    for epoch in range(1, learner.config.epochs + 1):
        result = run_epoch(learner, data.examples, data.splits.train, data.splits.validation, epoch)
        schedule.step(result.val_loss)
        if result.val_accuracy > best:
            best, weights = result.val_accuracy, copy.deepcopy(model.state_dict())
        yield result
    model.load_state_dict(weights)


def model_bytes(learner: Learner) -> bytes:
    """Return the network as a safetensors file, its keys those of torchvision's model with the head in its place."""
    state = learner.network.model.state_dict()
    return to_safetensors({name: tensor.detach().cpu().contiguous() for name, tensor in state.items()})
