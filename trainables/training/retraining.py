"""The retrain of a configuration that was chosen: on all labelled images, or on those that its trial trained on."""

import dataclasses
import json
import math
from collections.abc import Callable, Generator, Sequence
from typing import Any

import numpy as np
import torch
from safetensors.torch import load as from_safetensors
from safetensors.torch import save as to_safetensors
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from trainables.config import EpochResult, TrainedModel, TrialConfig
from trainables.networks import freeze
from trainables.networks.published import GEOMETRY_KEY
from trainables.seeds import stream
from trainables.training import checkpoint
from trainables.training.epoch import Examples, Learner, evaluate, forward, new_learner, on_device
from trainables.training.trial import begin, open_training_data, run_epoch

AVERAGED = 4
"""The last one in so many of a retrain's epochs are averaged: Izmailov et al. (2018), too, begin at 75 % of them."""


def retrain(
    config: TrialConfig,
    on: str,
    learning_rates: Sequence[float],
    *,
    resume_from: bytes | None = None,
    save: Callable[[bytes], None] | None = None,
) -> Generator[EpochResult | TrainedModel, None, None]:
    """Train the final model of a configuration; yield each epoch's result, then the model.

    The weights are the mean of those after each epoch of the last quarter (Izmailov et al. 2018, "Averaging Weights
    Leads to Wider Optima and Better Generalization", algorithm 1); batch norm's statistics are computed for that mean.
    docs/method.md has the benchmark that chose this.
    No image is left to drive a schedule, so the rates are those of the trial that chose the configuration.

    Args:
        config: What to train.
        on: ``train+val`` or ``train``: whether the validation images are learned from, too.
        learning_rates: Adam's, of each of the configuration's epochs.
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
    mean = WeightMean(list(freeze.trainable_parameters(learner.network)))
    history = checkpoint.restore(resume_from, learner, mean) if resume_from is not None else []
    yield from history
    for epoch in range(len(history) + 1, config.epochs + 1):
        for group in learner.optimizer.param_groups:
            group["lr"] = learning_rates[epoch - 1]
        result = run_epoch(learner, data.examples, images, images[:0], epoch)
        if epoch > config.epochs - max(1, config.epochs // AVERAGED):
            mean.add()
        history.append(result)
        if save is not None:
            save(checkpoint.dump(learner, mean, history))
        yield result
    mean.put_back()
    recompute_batch_norm(learner, data.examples, images)
    yield TrainedModel(
        model=model_bytes(learner),
        accuracy=evaluate(learner, data.examples, images).accuracy,
        is_finite=math.isfinite(history[-1].train_loss or 0.0),
        micro_batch=config.machine.micro_batch,
    )


class WeightMean:
    """The mean of parameters over some of the epochs that train them."""

    def __init__(self, parameters: list[nn.Parameter]) -> None:
        self._parameters = parameters
        self._mean = [parameter.detach().clone() for parameter in parameters]
        self._count = 0

    @torch.no_grad()
    def add(self) -> None:
        """Take the parameters as they are into the mean."""
        self._count += 1
        for value, parameter in zip(self._mean, self._parameters, strict=True):
            value.lerp_(parameter, 1 / self._count)

    @torch.no_grad()
    def put_back(self) -> None:
        """Give the parameters the mean's values."""
        for parameter, value in zip(self._parameters, self._mean, strict=True):
            parameter.copy_(value)

    def state_dict(self) -> dict[str, Any]:
        """Return what a checkpoint keeps."""
        return {"mean": self._mean, "count": self._count}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take up what `state_dict` gave."""
        self._mean, self._count = list(state["mean"]), state["count"]


def recompute_batch_norm(learner: Learner, examples: Examples, indices: np.ndarray) -> None:
    """Give what trains of batch norm the statistics of the images at `indices`, in the network as it is.

    The images pass in shuffled batches as large as those that trained; the seed decides them.

    `torch.optim.swa_utils.update_bn` would reset the frozen part's, too.
    """
    network, mode = learner.network, learner.config.freeze_mode
    trained = [network.model.get_submodule(path) for path in freeze.moving(network, mode)] or [network.model]
    layers = [layer for part in trained for layer in part.modules() if isinstance(layer, _BatchNorm)]
    if not layers:
        return
    config = learner.config
    seed = stream(config.seed, "batch norm")
    torch.manual_seed(seed)
    shuffled = np.random.default_rng(seed).permutation(indices)
    size = config.machine.micro_batch or config.batch_size
    momenta = [layer.momentum for layer in layers]
    for layer in layers:
        layer.reset_running_stats()
        layer.momentum = None  # The mean of all batches, which are therefore equally large.
    freeze.train_mode(network, mode)
    with torch.no_grad():
        for batch in np.array_split(shuffled, math.ceil(len(shuffled) / size)):
            forward(learner, on_device(learner, examples, batch)[0])
    for layer, momentum in zip(layers, momenta, strict=True):
        layer.momentum = momentum


def load(config: TrialConfig, trained: TrainedModel) -> Learner:
    """Return a learner that holds a trained model, to be judged."""
    machine = dataclasses.replace(config.machine, micro_batch=trained.micro_batch)
    config = dataclasses.replace(config, machine=machine)
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
