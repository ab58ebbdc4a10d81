"""Features of what is frozen, once per machine: trials that share them train the rest of their network alone."""

import dataclasses
import hashlib
import logging
import math
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from trainables.config import TrialConfig
from trainables.data.array_store import new_array, open_array, store_dir
from trainables.data.transforms import normalise
from trainables.networks import freeze
from trainables.networks.backbones import digest
from trainables.networks.frozen_part import split
from trainables.steps import LongWork
from trainables.training.epoch import Examples, Learner, autocast, evaluation_batch, on_device

logger = logging.getLogger(__name__)


def applies(config: TrialConfig) -> bool:
    """Return whether some of a trial's network is a function of weights, image, transform and precision alone.

    In front of the paper's head stands a layer that may be random, hence another one in each trial.
    """
    return config.freeze_mode != "none" and config.data.augment == "none" and config.model.head != "paper"


def with_features(learner: Learner, pixels: Examples) -> tuple[Learner, Examples]:
    """Return the learner and its examples, cut short by what is frozen where that `applies` and fits the store.

    The features are computed at the first call on a machine, by one process, and found again by every later one.

    Args:
        learner: As `new_learner` gives it.
        pixels: From the image store, whose file's name says what they are.
    """
    config = learner.config
    parts = split(learner.network, freeze.moving(learner.network, config.freeze_mode)) if applies(config) else None
    if parts is None:
        return learner, pixels
    learner.network.model.eval()
    shape = (len(pixels.inputs), *_features(learner, parts.frozen, pixels, np.arange(1)).shape[1:])
    if 4 * math.prod(shape) > config.machine.cache_bytes:
        return learner, pixels
    features = open_array(
        store_dir("features", config.machine.data_dir) / f"{_name(learner, pixels)}.npy",
        lambda store: store.shape == shape,
        lambda path: _build(path, shape, learner, parts.frozen, pixels),
        config.machine.cache_bytes,
    )
    return dataclasses.replace(learner, tail=parts.tail), Examples(features, pixels.labels)


def _name(learner: Learner, pixels: Examples) -> str:
    """SHA-256 of all that decides the features: the images, the frozen modules and their values, the arithmetic."""
    assert isinstance(pixels.inputs, np.memmap)
    compute, model = learner.compute, learner.network.model
    moving = tuple(f"{path}." for path in freeze.moving(learner.network, learner.config.freeze_mode))
    sha256 = hashlib.sha256()
    for part in (Path(str(pixels.inputs.filename)).stem, learner.geometry, compute.autocast, compute.name, moving):
        sha256.update(repr(part).encode())
    for name, module in model.named_modules():
        if not f"{name}.".startswith(moving):
            sha256.update(f"{name} {type(module).__qualname__} {module.extra_repr()}".encode())
    frozen = {name: tensor for name, tensor in model.state_dict().items() if not name.startswith(moving)}
    sha256.update((learner.network.pretrained_sha256 or digest(frozen)).encode())
    # What a user's own network does with its modules is in its code alone.
    sha256.update((learner.config.model.code_sha256 or "").encode())
    return sha256.hexdigest()[:32]


def _build(path: Path, shape: tuple[int, ...], learner: Learner, frozen: nn.Module, pixels: Examples) -> None:
    """Pass every image through what is frozen and write down what comes out."""
    work = LongWork(logger, "features")
    store = new_array(path, np.float32, shape)
    size = evaluation_batch(learner.config)
    for start in range(0, shape[0], size):
        indices = np.arange(start, min(start + size, shape[0]))
        store[indices] = _features(learner, frozen, pixels, indices).float().cpu().numpy()
        work.at(start, shape[0], "computed the features of %d of %d images", start, shape[0])
    store.flush()


def _features(learner: Learner, frozen: nn.Module, pixels: Examples, indices: np.ndarray) -> Tensor:
    with torch.inference_mode(), autocast(learner):
        features: Tensor = frozen(normalise(on_device(learner, pixels, indices)[0], learner.geometry))
    return features
