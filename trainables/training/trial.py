"""One trial: a plain generator that takes a configuration and yields one result per epoch."""

import dataclasses
import functools
import math
import time
from collections.abc import Callable, Generator
from typing import Any

import numpy as np
import torch
from torch.optim.lr_scheduler import ReduceLROnPlateau

from trainables.config import DataConfig, EpochResult, Geometry, TrainableConfig, TrialConfig
from trainables.data.datasets import training_images
from trainables.data.image_store import open_store
from trainables.data.splits import Splits, split
from trainables.networks.identity import geometry_of
from trainables.predictions import pack
from trainables.training import checkpoint
from trainables.training.epoch import Examples, Learner, evaluate, new_learner, train_epoch
from trainables.training.feature_store import with_features


@dataclasses.dataclass(frozen=True)
class TrainingData:
    """The training split of a study's dataset, decoded, and how it is divided."""

    examples: Examples
    splits: Splits
    classes: tuple[str, ...]


def begin(config: TrialConfig) -> tuple[Learner, TrainingData]:
    """Return an untrained learner and the data of its study.

    Raises:
        InputError: The data, the backbone or its weights cannot be used.
    """
    data = open_training_data(config)
    learner, examples = with_features(new_learner(config, len(data.classes)), data.examples)
    return learner, dataclasses.replace(data, examples=examples)


def finetune(
    config: TrainableConfig,
    *,
    resume_from: bytes | None = None,
    save: Callable[[bytes], None] | None = None,
) -> Generator[EpochResult, None, None]:
    """Do what `run_trial` does, as a trainable (`trainables.trainable`)."""
    params: dict[str, Any] = dict(config.params)
    trial = TrialConfig(data=config.data, model=config.model, seed=config.seed, machine=config.machine, **params)
    return run_trial(trial, resume_from=resume_from, save=save)


def run_trial(
    config: TrialConfig,
    *,
    resume_from: bytes | None = None,
    save: Callable[[bytes], None] | None = None,
) -> Generator[EpochResult, None, None]:
    """Train one configuration and yield each epoch's result.

    The optimiser is Adam and the schedule ReduceLROnPlateau on the validation loss, both with PyTorch's defaults but
    the learning rate (Jimenez & Hale 2023, set-up).

    Args:
        config: What to train.
        resume_from: What `save` was given last for this very configuration: its epochs are yielded again from the
            record, and training continues after them, number for number as if it had never stopped.
        save: Called with the trial's whole state before an epoch's result is yielded.

    Raises:
        InputError: The data, the backbone or its weights cannot be used.
        checkpoint.CheckpointError: `resume_from` is torn or belongs to another configuration.
    """
    learner, data = begin(config)
    schedule = ReduceLROnPlateau(learner.optimizer)
    history = checkpoint.restore(resume_from, learner, schedule) if resume_from is not None else []
    yield from history
    for epoch in range(len(history) + 1, config.epochs + 1):
        result = run_epoch(learner, data.examples, data.splits.train, data.splits.validation, epoch)
        assert result.val_loss is not None
        schedule.step(result.val_loss)
        if any(before.val_accuracy >= result.val_accuracy for before in history):
            result = dataclasses.replace(result, val_predictions="")
        history.append(result)
        if save is not None:
            save(checkpoint.dump(learner, schedule, history))
        yield result


def run_epoch(
    learner: Learner, examples: Examples, train: np.ndarray, validation: np.ndarray, epoch: int
) -> EpochResult:
    """Train over the images at `train` once and judge by those at `validation`; with none, those figures are NaN."""
    learning_rate = float(learner.optimizer.param_groups[0]["lr"])
    start = time.perf_counter()
    train_loss = train_epoch(learner, examples, train, epoch)
    trained = time.perf_counter()
    judged = evaluate(learner, examples, validation) if len(validation) else None
    return EpochResult(
        epoch=epoch,
        val_accuracy=judged.accuracy if judged else math.nan,
        val_loss=judged.loss if judged else math.nan,
        train_loss=train_loss,
        learning_rate=learning_rate,
        seconds=time.perf_counter() - start,
        images_per_second=len(train) / (trained - start),
        val_predictions=pack(judged.predicted) if judged else "",
    )


def open_training_data(config: TrialConfig) -> TrainingData:
    """Open the training split of a trial's dataset; kept by the process, since the trials of a study share it.

    Raises:
        InputError: The data is missing, unreadable or not what the study recorded.
    """
    return _open(config.data, geometry_of(config.model), config.machine.data_dir, config.machine.cache_bytes)


@functools.lru_cache(maxsize=2)
def _open(data: DataConfig, geometry: Geometry, data_dir: str | None, cache_bytes: int) -> TrainingData:
    images = training_images(data, data_dir)
    splits = split(images, data)
    examples = Examples(open_store(images, geometry, data_dir, cache_bytes), torch.from_numpy(images.labels))
    return TrainingData(examples, splits, images.classes)
