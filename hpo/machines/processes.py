"""The Ray processes of this machine that `hpo cluster` started: which cluster and node each belongs to."""

import contextlib
from typing import NamedTuple

import psutil

MARK = "HPO_CLUSTER"
"""Environment variable of the Ray processes that `hpo cluster` starts, and of no others: ``CLUSTER NODE_IP``."""


class Place(NamedTuple):
    """One node of one cluster."""

    cluster: str
    """HOST:PORT."""
    node_ip: str


def running() -> dict[Place, list[psutil.Process]]:
    """Return the Ray processes of this machine that `hpo cluster` started, by cluster and node; also leftovers."""
    found: dict[Place, list[psutil.Process]] = {}
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            cluster, _, node_ip = process.environ().get(MARK, "").partition(" ")
            # The mark is inherited, also by what is none of Ray's.
            if cluster and any("/ray/" in word for word in process.cmdline()):
                found.setdefault(Place(cluster, node_ip), []).append(process)
    return found


def is_raylet(process: psutil.Process) -> bool:
    """Return whether a process is a Ray node itself, and none of its helpers."""
    with contextlib.suppress(psutil.Error):
        return bool(process.name() == "raylet")
    return False


def live_nodes() -> set[Place]:
    """Return the nodes that `hpo cluster` started on this machine, and that still run."""
    return {place for place, processes in running().items() if any(is_raylet(one) for one in processes)}
