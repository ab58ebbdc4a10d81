"""The retrain of a configuration that was chosen: on all labelled images, or on those that its trial trained on."""

import dataclasses
import json
from collections.abc import Callable, Generator

import numpy as np
from safetensors.torch import load as from_safetensors
from safetensors.torch import save as to_safetensors
from torch.optim.lr_scheduler import CosineAnnealingLR

from trainables.config import EpochResult, TrainedModel, TrialConfig
from trainables.networks.published import GEOMETRY_KEY
from trainables.training import checkpoint
from trainables.training.epoch import Learner, evaluate, new_learner
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


def retrain(
    config: TrialConfig,
    on: str,
    *,
    resume_from: bytes | None = None,
    save: Callable[[bytes], None] | None = None,
) -> Generator[EpochResult | TrainedModel, None, None]:
    """Train the final model of a configuration; yield each epoch's result, then the model.

    Args:
        config: What to train.
        on: ``train+val`` or ``train``: whether the validation images are learned from, too.
        resume_from: What `save` was given last for this very configuration.
        save: Called with the whole state before an epoch's result is yielded.

    Raises:
        InputError: The data, the backbone or its weights cannot be used.
        checkpoint.CheckpointError: `resume_from` is torn or belongs to another configuration.
    """
    learner, data = begin(config)
    images = data.splits.train
    if on == "train+val":
        images = np.concatenate([images, data.splits.validation])
    schedule = CosineAnnealingLR(learner.optimizer, config.epochs)
    history = checkpoint.restore(resume_from, learner, schedule) if resume_from is not None else []
    yield from history
    for epoch in range(len(history) + 1, config.epochs + 1):
        result = run_epoch(learner, data.examples, images, images[:0], epoch)
        schedule.step()
        history.append(result)
        if save is not None:
            save(checkpoint.dump(learner, schedule, history))
        yield result
    yield TrainedModel(
        model=model_bytes(learner),
        accuracy=evaluate(learner, data.examples, images).accuracy,
        is_finite=bool(np.isfinite(history[-1].train_loss)),
    )


def load(config: TrialConfig, trained: TrainedModel) -> Learner:
    """Return a learner that holds a trained model, to be judged."""
    learner = new_learner(config, len(open_training_data(config).classes))
    learner.network.model.load_state_dict(from_safetensors(trained.model))
    return learner


def model_bytes(learner: Learner) -> bytes:
    """Return the network as a safetensors file, its keys those of torchvision's model with the head in its place.

    The file carries the transform that its images went through, as ``geometry`` in its metadata.
    """
    state = learner.network.model.state_dict()
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in state.items()}
    return to_safetensors(tensors, {GEOMETRY_KEY: json.dumps(dataclasses.asdict(learner.geometry))})
