"""What a trial asks of the cluster: CPUs and GPUs, and how many trials that lets run at a time."""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from hpo.errors import UsageError
from hpo.spec import RunOptions
from trainables.config import FreezeMode

FROZEN_SHARE = 0.25
"""Of a GPU, for a trial with a frozen backbone: it trains a head on stored features, which keeps no GPU busy."""

_ROUNDING = 1e-9
"""Shares such as 1/3 do not add up exactly."""


@dataclass(frozen=True)
class Share:
    """What one trial takes of a machine."""

    cpus: float
    gpus: float

    @property
    def resources(self) -> dict[str, float]:
        """Ray Tune's name for it."""
        return {"CPU": self.cpus, "GPU": self.gpus}

    @property
    def threads(self) -> int:
        """CPU threads that the trial may use: its CPUs, at least one."""
        return max(1, int(self.cpus))


@dataclass(frozen=True)
class Placement:
    """How a cluster is divided among a study's trials."""

    whole: Share
    """Of a trial that trains its backbone, or the last stage of it."""
    frozen: Share
    """Of a trial that trains its head alone."""
    concurrency: int
    """Most trials at a time."""
    gpus: float
    """Of all machines."""

    def share(self, mode: FreezeMode) -> Share:
        """Return what a trial of a freeze mode asks for."""
        return self.frozen if mode == "backbone" else self.whole

    def has_room(self, running: Iterable[FreezeMode]) -> bool:
        """Return whether another trial, be it a frozen one, can start beside those that run; Ray knows of the CPUs."""
        taken = sum(self.share(mode).gpus for mode in running)
        return not self.frozen.gpus or taken + self.frozen.gpus <= self.gpus + _ROUNDING


def place(options: RunOptions, nodes: Iterable[Mapping[str, float]]) -> Placement:
    """Divide the cluster among trials.

    Args:
        options: What the user asked for; None leaves the choice here: a GPU a trial where there are GPUs, or a share of
            one where the backbone is frozen, with as large a share of its machine's CPUs; else one CPU a trial.
        nodes: Ray's resources of each machine: ``CPU`` and, where it has some, ``GPU``.

    Raises:
        UsageError: No machine can hold a single trial.
    """
    machines = list(nodes)
    has_gpus = any(node.get("GPU", 0) for node in machines)
    gpus = options.gpus_per_trial if options.gpus_per_trial is not None else float(has_gpus)
    cpus = options.cpus_per_trial if options.cpus_per_trial is not None else _cpu_share(machines, gpus)
    whole = frozen = Share(cpus, gpus)
    if gpus and options.gpus_per_trial is None and options.cpus_per_trial is None:
        frozen = Share(_cpu_share(machines, FROZEN_SHARE), FROZEN_SHARE)
    if not any(_slots(node, whole) for node in machines):
        offered = "; ".join(f"{node.get('CPU', 0):g} CPUs, {node.get('GPU', 0):g} GPUs" for node in machines)
        raise UsageError(
            f"no machine can hold a trial of {cpus:g} CPUs and {gpus:g} GPUs (there are: {offered});"
            " lower --cpus-per-trial or --gpus-per-trial."
        )
    slots = sum(_slots(node, frozen) for node in machines)
    return Placement(
        whole, frozen, min(slots, options.concurrency or slots), sum(node.get("GPU", 0) for node in machines)
    )


def _cpu_share(machines: list[Mapping[str, float]], gpus: float) -> float:
    if not gpus:
        return 1.0
    shares = [node["CPU"] * gpus / node["GPU"] for node in machines if node.get("GPU")]
    return float(max(1, math.floor(min(shares, default=1.0))))


def _slots(node: Mapping[str, float], share: Share) -> int:
    by_cpus = node.get("CPU", 0) / share.cpus if share.cpus else math.inf
    by_gpus = node.get("GPU", 0) / share.gpus if share.gpus else math.inf
    return math.floor(min(by_cpus, by_gpus) + _ROUNDING)
