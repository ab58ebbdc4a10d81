"""Features of a frozen backbone, once a machine: what its head is given for every image."""

import hashlib
import logging
import time
from pathlib import Path

import numpy as np
import torch
from numpy.lib.format import open_memmap
from torch import Tensor, nn

from trainables.array_store import open_array, store_dir
from trainables.config import TrialConfig
from trainables.learning import EVALUATION_BATCH, Examples, Learner, forward, on_device

logger = logging.getLogger(__name__)

_PROGRESS_S = 5.0


def applies(config: TrialConfig) -> bool:
    """Return whether a trial's features are a function of weights, images, transform and precision alone."""
    return config.model.freeze_mode == "backbone" and config.augment == "none" and config.model.head != "paper"


def with_features(learner: Learner, pixels: Examples) -> Examples:
    """Return what the learner's head is given for each image of `pixels`: (N, D) float32, memory-mapped.

    The features are computed at the first call on a machine, by one process, and found again by every later one.

    Args:
        learner: One to whose configuration this `applies`; its head plays no part.
        pixels: From the image store, whose file's name says what they are.
    """
    data = learner.config.data
    count = len(pixels.inputs)
    features = open_array(
        store_dir("features", data.data_dir) / f"{_name(learner, pixels)}.npy",
        lambda store: store.ndim == 2 and len(store) == count,
        lambda path: _build(path, learner, pixels),
        data.cache_bytes,
    )
    return Examples(features, pixels.labels)


def _name(learner: Learner, pixels: Examples) -> str:
    assert isinstance(pixels.inputs, np.memmap)
    compute, head = learner.compute, f"{learner.network.head_path}."
    digest = hashlib.sha256()
    for part in (Path(str(pixels.inputs.filename)).stem, learner.geometry, compute.autocast, compute.name):
        digest.update(repr(part).encode())
    for name, module in learner.network.model.named_modules():
        if not f"{name}.".startswith(head):
            digest.update(f"{name} {type(module).__qualname__} {module.extra_repr()}".encode())
    for name, tensor in learner.network.model.state_dict().items():
        if not name.startswith(head):
            digest.update(name.encode())
            digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().data)
    return digest.hexdigest()[:32]


def _build(path: Path, learner: Learner, pixels: Examples) -> None:
    """Pass every image through the frozen backbone and write down what reaches the head."""
    learner.network.model.eval()
    head = learner.network.model.get_submodule(learner.network.head_path)
    count, told = len(pixels.inputs), time.monotonic()
    store: np.ndarray | None = None
    for start in range(0, count, EVALUATION_BATCH):
        indices = np.arange(start, min(start + EVALUATION_BATCH, count))
        features = _features(learner, head, on_device(learner, pixels, indices)[0])
        if store is None:
            store = open_memmap(path, mode="w+", dtype=np.float32, shape=(count, features.shape[1]))
        store[indices] = features.float().cpu().numpy()
        if time.monotonic() - told > _PROGRESS_S:
            told = time.monotonic()
            logger.info("computed the features of %d of %d images", start, count)
    assert isinstance(store, np.memmap)
    store.flush()


def _features(learner: Learner, head: nn.Module, images: Tensor) -> Tensor:
    given: list[Tensor] = []
    hook = head.register_forward_pre_hook(lambda _, arguments: given.append(arguments[0]))
    try:
        with torch.inference_mode():
            forward(learner, images)
    finally:
        hook.remove()
    return given[0]
