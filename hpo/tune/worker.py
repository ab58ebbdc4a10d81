"""The Ray actor that runs trials: it drives the trial's generator, one epoch per step, and keeps its checkpoint.

One process serves many trials (Ray's `reuse_actors`), so torch is imported once.
"""

import platform
from collections.abc import Generator, Iterable
from typing import Any

import ray
from ray import tune

from hpo.errors import EnvironmentFailureError
from hpo.machines.checkpoints import CheckpointPlace
from hpo.machines.connection import is_loopback
from hpo.machines.session import use_given_cards
from trainables.config import EpochResult, TrainableConfig
from trainables.errors import InputError, is_of_environment


class Worker(tune.Trainable):
    """Runs the trial that its configuration names.

    The configuration holds `number` (the trial's), `trainable` (its name), `trial` (a `TrainableConfig`), `reported`
    (epochs that the ledger has already), `checkpoints` (a `CheckpointPlace`) and `ended` (trials whose checkpoints this
    machine may drop). A step's result holds the fields of `EpochResult`, `epochs` (the trial's last), `number`, `host`,
    `device`, `card` (the GPU's number on its machine, None without one), `restarted` (why a trial that had epochs began
    at epoch 0, else None), `micro_batch` (what fitted, where the batch had to be split, else None), `memory_gb` (the
    most GPU memory that it took, None without a GPU) and `done`.
    """

    def setup(self, config: dict[str, Any]) -> None:
        """Take up the configured trial; whatever can fail is left to the first `step`, whose errors Ray reports."""
        self._number: int = config["number"]
        self._trainable: str = config["trainable"]
        self._place: CheckpointPlace = config["checkpoints"]
        self._reported: int = config["reported"]
        self._restarted: str | None = None
        self._epochs = self._begin(config["trial"], config["ended"])

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """Begin another trial in this process."""
        self.cleanup()
        self.setup(new_config)
        return True

    def step(self) -> dict[str, Any]:
        """Train one epoch, with smaller and smaller micro-batches while the memory does not suffice.

        Raises:
            NoPlaceError: Its checkpoint cannot be kept.
            EnvironmentFailureError: Anything else outside its configuration keeps the trial from training.
            Exception: What its configuration causes.
        """
        try:
            trial, result = next(self._epochs)
        except Exception as error:
            if not is_of_environment(error):
                raise
            # Not the error itself: not all of them can be pickled.
            raise EnvironmentFailureError(_words(error)) from None
        from trainables.training.device import peak_memory_gb

        self._reported = result.epoch
        return {
            **vars(result),
            # Ray takes a dictionary to pieces.
            "extra": tuple(result.extra.items()),
            "number": self._number,
            "host": ray.util.get_node_ip_address(),
            "device": device_name(),
            "card": _card(),
            "epochs": trial.epochs,
            "restarted": self._restarted,
            "micro_batch": trial.machine.micro_batch,
            "memory_gb": peak_memory_gb(),
            "done": result.epoch >= trial.epochs or not result.is_finite,
        }

    def cleanup(self) -> None:
        """End the trial's generator and give back what it held."""
        from trainables.training.device import release_memory

        self._epochs.close()
        release_memory()

    def _begin(
        self, trial: TrainableConfig, ended: Iterable[int]
    ) -> Generator[tuple[TrainableConfig, EpochResult], None, None]:
        use_given_cards()
        from trainables.training.micro_batches import in_memory

        for number in ended:
            self._place.store.remove(number)
        yield from in_memory(trial, self._run)

    def _run(self, trial: TrainableConfig) -> Generator[EpochResult, None, None]:
        from trainables.trainable import run
        from trainables.training.checkpoint import CheckpointError

        store = self._place.store
        blob = store.get(self._number)
        if blob is None and self._reported:
            self._restarted = "its checkpoint is missing"

        def save(state: bytes) -> None:
            store.put(self._number, state)

        try:
            epochs = run(self._trainable, trial, resume_from=blob, save=save)
            first = next(epochs)
        except CheckpointError as error:
            self._restarted = str(error)
            epochs = run(self._trainable, trial, save=save)
            first = next(epochs)
        reported = self._reported
        if first.epoch > reported:
            yield first
        yield from (result for result in epochs if result.epoch > reported)


def device_name() -> str:
    """Return the name of the device that this process computes on, such as ``NVIDIA GeForce RTX 3060``."""
    import torch

    return torch.cuda.get_device_name() if torch.cuda.is_available() else f"cpu ({platform.machine()})"


def _card() -> str | None:
    """Return Ray's number of the GPU that this process was given; None: it was given none."""
    given: list[str] = ray.get_runtime_context().get_accelerator_ids().get("GPU", [])
    return given[0] if given else None


def _words(error: Exception) -> str:
    """An error of a machine in one line, with the machine's address where that is not this one alone."""
    if isinstance(error, OSError) and error.filename:
        said = f"{error.filename}: {error.strerror}"
    else:
        lines = str(error).strip().splitlines() or [""]
        said = lines[0] if isinstance(error, InputError) else f"{type(error).__name__}: {lines[0]}"
    host = ray.util.get_node_ip_address()
    return said.rstrip(".") if is_loopback(host) else f"on {host}: {said}".rstrip(".")
