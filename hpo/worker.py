"""The Ray actor that runs trials: it drives the trial's generator, one epoch a step, and keeps its checkpoint.

One process serves many trials (Ray's `reuse_actors`), so torch is imported once.
"""

import dataclasses
import logging
import platform
from collections.abc import Generator
from typing import Any

import ray
from ray import tune

from hpo.checkpoints import CheckpointStore
from trainables.config import EpochResult, TrialConfig

logger = logging.getLogger(__name__)


class Worker(tune.Trainable):
    """Runs the trial that its configuration names.

    The configuration holds `number` (the trial's), `trial` (a `TrialConfig`), `reported` (epochs that the ledger has
    already) and `checkpoints` (where the study keeps them). A step's result holds the fields of `EpochResult`,
    `epochs` (the trial's last), `number`, `host`, `device` and `done`.
    """

    def setup(self, config: dict[str, Any]) -> None:
        """Begin the configured trial."""
        self._number: int = config["number"]
        self._trial: TrialConfig = config["trial"]
        self._store = CheckpointStore(config["checkpoints"])
        self._epochs = self._run(config["reported"])

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """Begin another trial in this process."""
        self.cleanup()
        self.setup(new_config)
        return True

    def step(self) -> dict[str, Any]:
        """Train one epoch."""
        result = next(self._epochs)
        return {
            **dataclasses.asdict(result),
            "number": self._number,
            "host": ray.util.get_node_ip_address(),
            "device": device_name(),
            "epochs": self._trial.epochs,
            "done": result.epoch >= self._trial.epochs,
        }

    def cleanup(self) -> None:
        """End the trial's generator and give back what it held."""
        from trainables.device import release_memory

        self._epochs.close()
        release_memory()

    def _run(self, reported: int) -> Generator[EpochResult, None, None]:
        from trainables.checkpoint import CheckpointError
        from trainables.trial import run_trial

        blob = self._store.get(self._number)

        def save(state: bytes) -> None:
            self._store.put(self._number, state)

        try:
            epochs = run_trial(self._trial, resume_from=blob, save=save)
            first = next(epochs)
        except CheckpointError as error:
            logger.warning("trial %d starts from epoch 0: %s", self._number, error)
            epochs = run_trial(self._trial, save=save)
            first = next(epochs)
        if first.epoch > reported:
            yield first
        yield from (result for result in epochs if result.epoch > reported)


def device_name() -> str:
    """Return the name of the device that this process computes on, such as ``NVIDIA GeForce RTX 3060``."""
    import torch

    return torch.cuda.get_device_name() if torch.cuda.is_available() else f"cpu ({platform.machine()})"
