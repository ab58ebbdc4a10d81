"""The retrain of a configuration that was chosen: on all labelled images, or as its trial was."""

import copy
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from safetensors.torch import save as to_safetensors
from torch.optim.lr_scheduler import ReduceLROnPlateau

from trainables.backbones import geometry
from trainables.config import EpochResult, TrialConfig
from trainables.learning import Learner, new_learner
from trainables.trial import open_training_data, run_epoch

RetrainOn = Literal["train+val", "train"]


@dataclass(frozen=True)
class Step:
    """One epoch of a retrain, and the learner as it stands after it."""

    result: EpochResult
    learner: Learner


def retrain(config: TrialConfig, learning_rates: Sequence[float]) -> Iterator[Step]:
    """Train on training and validation images together, one epoch for each of `learning_rates`.

    No image is left to drive the schedule, so the rates are those of the trial that chose the configuration.

    Raises:
        InputError: The data, the backbone or its weights cannot be used.
    """
    data = open_training_data(config.data, geometry(config.model.backbone, config.model.image_size))
    learner = new_learner(config, len(data.classes))
    labelled = np.concatenate([data.splits.train, data.splits.validation])
    for epoch, learning_rate in enumerate(learning_rates, start=1):
        for group in learner.optimizer.param_groups:
            group["lr"] = learning_rate
        yield Step(run_epoch(learner, data.pixels, labelled, labelled[:0], epoch), learner)


def retrain_with_validation(config: TrialConfig) -> Iterator[Step]:
    """Train as the trial did, on the training images with the schedule on validation; the last step is the best epoch.

    Raises:
        InputError: The data, the backbone or its weights cannot be used.
    """
    data = open_training_data(config.data, geometry(config.model.backbone, config.model.image_size))
    learner = new_learner(config, len(data.classes))
    schedule = ReduceLROnPlateau(learner.optimizer)
    best: EpochResult | None = None
    for epoch in range(1, config.epochs + 1):
        result = run_epoch(learner, data.pixels, data.splits.train, data.splits.validation, epoch)
        schedule.step(result.val_loss)
        if best is None or result.val_accuracy > best.val_accuracy:
            best, weights = result, copy.deepcopy(learner.network.model.state_dict())
        yield Step(result, learner)
    if best is not None:
        learner.network.model.load_state_dict(weights)
        yield Step(best, learner)


def model_bytes(learner: Learner) -> bytes:
    """Return the network as a safetensors file: float32, in the layout of torchvision's own model."""
    state = learner.network.model.state_dict()
    return to_safetensors({name: tensor.detach().cpu().contiguous() for name, tensor in state.items()})
