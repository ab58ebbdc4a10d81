"""One run of a published experiment: trained once, with held-out test read after each epoch that was published.

A schedule that does not know how long training will last makes a run of 50 epochs pass through what runs of 10 and 20
would have been, so that one stands for all three. This is the one trainable that reads held-out test; what it reads is
counted as looks by the ledger, and chooses nothing.
"""

import dataclasses
import secrets
from collections.abc import Callable, Generator
from typing import Any

import numpy as np
from torch import Tensor
from torch.optim.lr_scheduler import ReduceLROnPlateau

from trainables.config import EpochResult, TrainableConfig, TrialConfig
from trainables.networks import freeze
from trainables.networks.backbones import Network
from trainables.predictions import TEST_PREDICTIONS, pack
from trainables.published.protocol import Protocol, parse_reads
from trainables.training import checkpoint
from trainables.training.epoch import Learner, learner_of, new_network
from trainables.training.feature_store import with_features
from trainables.training.held_out_evaluation import look_at_test
from trainables.training.trial import TrainingData, open_training_data, run_epoch

TEST_LABELS, TEST_EPOCH, SPLIT_SEED = "test_labels", "test_epoch", "split_seed"
"""What an epoch's `extra` holds beside `TEST_PREDICTIONS`: the classes of the test images, packed; the epoch whose
weights were judged; and the seed of an unseeded split."""


def run_published(
    config: TrainableConfig,
    *,
    resume_from: bytes | None = None,
    save: Callable[[bytes], None] | None = None,
) -> Generator[EpochResult, None, None]:
    """Train one configuration by the protocol that its parameters name (`trainables.trainable.Trainable`).

    Beside the parameters of fine-tuning these are ``protocol`` (`Protocol`) and ``reads`` (`parse_reads`). At an epoch
    that is read, the result's `extra` has what was read. So it has at an epoch whose loss is not finite, where training
    ends: that reading stands for all that were still to come, since the network is what it would have been at them.

    Raises:
        InputError: The data, the backbone or its weights cannot be used.
        checkpoint.CheckpointError: `resume_from` is torn or belongs to another configuration.
    """
    protocol, reads = Protocol.parse(str(config.params["protocol"])), parse_reads(str(config.params["reads"]))
    learner, data = _begin(_trial(config), protocol)
    memory = _Memory(ReduceLROnPlateau(learner.optimizer), secrets.randbits(32))
    history = checkpoint.restore(resume_from, learner, memory) if resume_from is not None else []
    train, validation = _division(
        data, config.data.val_fraction, memory.split_seed if protocol.unseeded_split else None
    )
    yield from history
    for epoch in range(len(history) + 1, config.epochs + 1):
        result = run_epoch(learner, data.examples, train, validation, epoch)
        memory.schedule.step(result.val_loss or 0.0)
        is_best = not any(before.val_accuracy >= result.val_accuracy for before in history)
        if is_best:
            memory.keep(learner, epoch)
        # Those of an unseeded split are of other images than the study's own validation split holds.
        predictions = result.val_predictions if is_best and not protocol.unseeded_split else ""
        extra: dict[str, float | str] = {SPLIT_SEED: float(memory.split_seed)} if protocol.unseeded_split else {}
        if epoch in reads or (not result.is_finite and epoch < max(reads, default=0)):
            extra |= _read(learner, epoch) if protocol.last_epoch else memory.read_best(learner)
        result = dataclasses.replace(result, val_predictions=predictions, extra=extra)
        history.append(result)
        if save is not None:
            save(checkpoint.dump(learner, memory, history))
        yield result


def _trial(config: TrainableConfig) -> TrialConfig:
    names = ("learning_rate", "batch_size", "epochs", "freeze_mode")
    params: dict[str, Any] = {name: config.params[name] for name in names}
    return TrialConfig(data=config.data, model=config.model, seed=config.seed, machine=config.machine, **params)


def _begin(config: TrialConfig, protocol: Protocol) -> tuple[Learner, TrainingData]:
    """Return an untrained learner of a protocol and its study's data, as `trial.begin` does of the sound one."""
    data = open_training_data(config)
    network = new_network(config, len(data.classes))
    if network.random_layer is not None and not protocol.frozen_random_layer:
        network = _training_random_layer(network)
    learner = dataclasses.replace(learner_of(config, network), always_training=protocol.training_mode)
    if protocol.training_mode:
        return learner, data
    learner, examples = with_features(learner, data.examples)
    return learner, dataclasses.replace(data, examples=examples)


def _training_random_layer(network: Network) -> Network:
    """Let the layer in front of the paper's own train with it: both lie in one module."""
    return dataclasses.replace(network, head_path=network.head_path.rpartition(".")[0])


def _division(data: TrainingData, val_fraction: float, seed: int | None) -> tuple[np.ndarray, np.ndarray]:
    """Return the images to train on and to validate with: the study's, or with a `seed` a division by chance alone."""
    own = data.splits
    if seed is None:
        return own.train, own.validation
    order = np.random.default_rng(seed).permutation(np.concatenate([own.train, own.validation]))
    count = max(1, round(len(order) * val_fraction))
    return order[count:], order[:count]


def _read(learner: Learner, epoch: int) -> dict[str, float | str]:
    """Look at held-out test with the network as it is."""
    seen = look_at_test(learner)
    return {TEST_PREDICTIONS: pack(seen.predicted), TEST_LABELS: pack(seen.labels), TEST_EPOCH: float(epoch)}


class _Memory:
    """What a run keeps beside its network: the schedule, its split's seed, and the weights that were best so far."""

    def __init__(self, schedule: ReduceLROnPlateau, split_seed: int) -> None:
        self.schedule = schedule
        self.split_seed = split_seed
        self._best: dict[str, Tensor] = {}
        self._epoch = 0

    def keep(self, learner: Learner, epoch: int) -> None:
        """Remember the weights of an epoch."""
        self._best, self._epoch = _copied(learner), epoch

    def read_best(self, learner: Learner) -> dict[str, float | str]:
        """Look at held-out test with the weights that are remembered; the network keeps those that it has."""
        mode, present = learner.config.freeze_mode, _copied(learner)
        freeze.load_moving_state(learner.network, self._best, mode)
        found = _read(learner, self._epoch)
        freeze.load_moving_state(learner.network, present, mode)
        return found

    def state_dict(self) -> dict[str, Any]:
        """Return what a checkpoint keeps."""
        seed = self.split_seed
        return {"schedule": self.schedule.state_dict(), "split_seed": seed, "best": self._best, "epoch": self._epoch}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take up what `state_dict` gave."""
        self.schedule.load_state_dict(state["schedule"])
        self.split_seed, self._best, self._epoch = state["split_seed"], state["best"], state["epoch"]


def _copied(learner: Learner) -> dict[str, Tensor]:
    """Return a copy, in main memory, of what can move."""
    state = freeze.moving_state(learner.network, learner.config.freeze_mode)
    return {name: tensor.detach().to("cpu", copy=True) for name, tensor in state.items()}
