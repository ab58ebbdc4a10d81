"""A trial's state between two epochs, as bytes: all that it needs to continue exactly.

No random state is among it, because an epoch's randomness follows from the trial's seed and the epoch's number.
"""

import dataclasses
import io
import pickle
from typing import Any, Protocol

import torch

from trainables.config import EpochResult, TrialConfig
from trainables.networks import freeze
from trainables.training.epoch import Learner

_UNREADABLE = (RuntimeError, pickle.UnpicklingError, EOFError, ValueError, LookupError, TypeError, AttributeError)
"""What torch and we raise for bytes that are no checkpoint, or one of another shape."""


class Stateful(Protocol):
    """What follows the training besides its optimiser: a schedule, a mean of weights."""

    def state_dict(self) -> dict[str, Any]:
        """Return its state."""

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take a state up."""


class CheckpointError(Exception):
    """A checkpoint is torn, or belongs to another configuration; the trial must start from epoch 0."""


def dump(learner: Learner, schedule: Stateful, history: list[EpochResult]) -> bytes:
    """Return the state after the last epoch of `history`; of a frozen network, what trains only."""
    buffer = io.BytesIO()
    state = {
        "config": _identity(learner.config),
        "history": [dataclasses.asdict(result) for result in history],
        "model": freeze.moving_state(learner.network, learner.config.freeze_mode),
        "optimizer": learner.optimizer.state_dict(),
        "schedule": schedule.state_dict(),
        "scaler": learner.scaler.state_dict(),
    }
    torch.save(state, buffer)
    return buffer.getvalue()


def restore(blob: bytes, learner: Learner, schedule: Stateful) -> list[EpochResult]:
    """Put the state in `blob` into a fresh learner and its schedule, and return the epochs behind it.

    Raises:
        CheckpointError: `blob` cannot be read, or was written by a trial of another configuration.
    """
    try:
        state: dict[str, Any] = torch.load(io.BytesIO(blob), map_location=learner.compute.device, weights_only=True)
        if not _is_of(state["config"], learner.config):
            raise CheckpointError("the checkpoint belongs to another configuration")
        freeze.load_moving_state(learner.network, state["model"], learner.config.freeze_mode)
        learner.optimizer.load_state_dict(state["optimizer"])
        schedule.load_state_dict(state["schedule"])
        # A card that computes in bfloat16 scales nothing; the next one may, where precision is chosen by card.
        if state["scaler"]:
            learner.scaler.load_state_dict(state["scaler"])
        return [EpochResult(**result) for result in state["history"]]
    except _UNREADABLE as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise CheckpointError(f"the checkpoint cannot be read ({reason})") from error


def _identity(config: TrialConfig) -> dict[str, Any]:
    """Return what decides a trial's numbers: all of its configuration but what the machine gives."""
    identity = dataclasses.asdict(config)
    del identity["machine"]
    return identity


def _is_of(stored: dict[str, Any], config: TrialConfig) -> bool:
    """Whether a checkpoint's identity is that of `config`, as far as its version of hpo wrote one down."""
    written, own = _settings(stored), _settings(_identity(config))
    return all(own[name] == value for name, value in written.items() if name in own)


def _settings(identity: dict[str, Any]) -> dict[str, Any]:
    """Return the settings by their own names, in whichever group of the configuration they stand."""
    own = {name: value for name, value in identity.items() if name not in ("data", "model")}
    return {**identity["data"], **identity["model"], **own}
