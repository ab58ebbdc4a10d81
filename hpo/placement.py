"""What a trial asks of the cluster: CPUs and GPUs, and how many trials that lets run at a time."""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from hpo.errors import UsageError
from hpo.spec import RunOptions


@dataclass(frozen=True)
class Placement:
    """The resources of each trial, and the number that run at a time."""

    cpus: float
    gpus: float
    concurrency: int

    @property
    def resources(self) -> dict[str, float]:
        """Ray's name for it."""
        return {"cpu": self.cpus, "gpu": self.gpus}

    @property
    def threads(self) -> int:
        """CPU threads that a trial may use: its CPUs, at least one."""
        return max(1, int(self.cpus))


def place(options: RunOptions, nodes: Iterable[Mapping[str, float]]) -> Placement:
    """Divide the cluster among trials.

    Args:
        options: What the user asked for; None leaves the choice here: a GPU a trial where there are GPUs, with that
            GPU's share of its machine's CPUs, else one CPU a trial.
        nodes: Ray's resources of each machine: ``CPU`` and, where it has some, ``GPU``.

    Raises:
        UsageError: No machine can hold a single trial.
    """
    machines = list(nodes)
    has_gpus = any(node.get("GPU", 0) for node in machines)
    gpus = options.gpus_per_trial if options.gpus_per_trial is not None else float(has_gpus)
    cpus = options.cpus_per_trial if options.cpus_per_trial is not None else _cpu_share(machines, gpus)
    slots = sum(_slots(node, cpus, gpus) for node in machines)
    if slots == 0:
        offered = "; ".join(f"{node.get('CPU', 0):g} CPUs, {node.get('GPU', 0):g} GPUs" for node in machines)
        raise UsageError(
            f"no machine can hold a trial of {cpus:g} CPUs and {gpus:g} GPUs (there are: {offered});"
            " lower --cpus-per-trial or --gpus-per-trial."
        )
    return Placement(cpus, gpus, min(slots, options.concurrency or slots))


def _cpu_share(machines: list[Mapping[str, float]], gpus: float) -> float:
    if not gpus:
        return 1.0
    shares = [node["CPU"] * gpus / node["GPU"] for node in machines if node.get("GPU")]
    return float(max(1, math.floor(min(shares, default=1.0))))


def _slots(node: Mapping[str, float], cpus: float, gpus: float) -> int:
    by_cpus = node.get("CPU", 0) / cpus if cpus else math.inf
    by_gpus = node.get("GPU", 0) / gpus if gpus else math.inf
    # Shares such as 1/3 do not add up exactly.
    return math.floor(min(by_cpus, by_gpus) + 1e-9)
