"""A pretraining's state between two epochs, as bytes: all that it needs to continue exactly.

No random state is among it, because what an epoch draws follows from the seed and the numbers of epoch and step.
"""

import dataclasses
import io
import pickle
from typing import Any

import torch

from trainables.contrastive.config import PretrainConfig, PretrainEpoch
from trainables.contrastive.step import Learner
from trainables.training.checkpoint import CheckpointError

_UNREADABLE = (RuntimeError, pickle.UnpicklingError, EOFError, ValueError, LookupError, TypeError, AttributeError)

_DIGEST = "train_sha256"
_WORDS = {
    _DIGEST: "other images in the dataset (their names, labels or sizes in bytes differ)",
    "skipped_images": "other images left out",
}
"""What is said of settings whose values say nothing to people."""


@dataclasses.dataclass
class Progress:
    """What a pretraining has behind it."""

    random_knn_accuracy: float
    """Of the network before its first step."""
    epochs: list[PretrainEpoch]


def dump(learner: Learner, progress: Progress) -> bytes:
    """Return the state after the last of the epochs in `progress`."""
    buffer = io.BytesIO()
    state = {
        "config": dataclasses.asdict(learner.config),
        "random_knn_accuracy": progress.random_knn_accuracy,
        "epochs": [dataclasses.asdict(epoch) for epoch in progress.epochs],
        "network": learner.network.state_dict(),
        "optimizer": learner.optimizer.state_dict(),
        "scaler": learner.scaler.state_dict(),
    }
    torch.save(state, buffer)
    return buffer.getvalue()


def restore(blob: bytes, learner: Learner) -> Progress:
    """Put the state in `blob` into a fresh learner, and return what is behind it.

    Raises:
        CheckpointError: `blob` cannot be read, or belongs to another configuration; the message says which.
    """
    try:
        state: dict[str, Any] = torch.load(io.BytesIO(blob), map_location=learner.compute.device, weights_only=True)
        differing = differences(state["config"], learner.config)
        if differing:
            raise CheckpointError(f"it was begun with {'; '.join(differing)}")
        learner.network.load_state_dict(state["network"])
        learner.optimizer.load_state_dict(state["optimizer"])
        # A card that computes in bfloat16 scales nothing; the next one may, where precision is chosen by card.
        if state["scaler"]:
            learner.scaler.load_state_dict(state["scaler"])
        return Progress(state["random_knn_accuracy"], [PretrainEpoch(**epoch) for epoch in state["epochs"]])
    except _UNREADABLE as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise CheckpointError(f"it cannot be read ({reason})") from error


def differences(stored: dict[str, Any], config: PretrainConfig) -> list[str]:
    """Return, in words, in which settings a stored configuration differs from `config`.

    The images' digest is compared where one was stored: earlier versions stored none.
    """
    before, now = _flat(stored), _flat(dataclasses.asdict(config))
    if before.get(_DIGEST) is None:
        before[_DIGEST] = now[_DIGEST]
    return [
        _WORDS.get(name) or f"{name} {before.get(name)} instead of {now.get(name)}"
        for name in sorted(before.keys() | now.keys())
        if before.get(name) != now.get(name)
    ]


def _flat(settings: dict[str, Any]) -> dict[str, Any]:
    """Return settings by their own names, whichever group they are in; lists, as JSON has them, as tuples."""
    flat: dict[str, Any] = {}
    for name, value in settings.items():
        if isinstance(value, dict):
            flat |= _flat(value)
        else:
            flat[name] = tuple(value) if isinstance(value, list) else value
    return flat
