"""What the nodes of a Ray cluster are and have: asked of each of them by a small task that runs there."""

import contextlib
import importlib.metadata
import platform
import socket
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

import ray
from joblib import cpu_count
from ray import cloudpickle
from ray.exceptions import RayError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from hpo.machines.gpus import name_of
from hpo.machines.placement import VRAM
from hpo.machines.session import GPU_LABEL, alive

T = TypeVar("T")

TIMEOUT_S = 90.0
"""For a node's answer: Ray starts a process there for it, which imports torch."""

# What runs on a node travels whole, for hpo may be another there, or missing.
cloudpickle.register_pickle_by_value(sys.modules[__name__])

_PACKAGES = ("ray", "torch", "torchvision", "optuna", "hpo")


class NodeError(str):
    """Why a node gave no result, in one line."""


@dataclass(frozen=True, kw_only=True)
class NodeFacts:
    """What one node is and has."""

    node_id: str
    address: str
    """Its IP address."""
    hostname: str
    cpus: float
    gpus: float
    vram_gb: float | None
    """GiB of its card, as it was registered; None: it has none, or does not say."""
    gpu: str | None = None
    """Its card's name; None: it has none."""
    driver: str | None = None
    """Its card's driver's version; None: there is none, or hpo is not installed there."""
    versions: dict[str, str | None] = field(default_factory=dict)
    """Versions of Python and the packages; None: not installed there."""
    autocast_width: int = 4
    """Bytes of a number where autocast is at work: 2 where the device computes in 16 bits, else 4."""
    clock: float = 0.0
    """Its time when it answered, in seconds since 1970."""
    error: str | None = None
    """Why it did not answer; the other fields are then from Ray alone. None: it answered."""


def each_node(function: Callable[..., T], *args: object, timeout_s: float = TIMEOUT_S) -> dict[str, T | NodeError]:
    """Run `function` once on every node that is alive, at the same time, and return each result by the node's id.

    The nodes must be able to import it; the slowest is waited for `timeout_s`.
    """
    tasks = {node["NodeID"]: _on(node["NodeID"], function).remote(*args) for node in alive()}
    ready, late = ray.wait(list(tasks.values()), num_returns=len(tasks), timeout=timeout_s)
    for task in late:
        ray.cancel(task, force=True)
    no_answer = NodeError(f"no answer within {timeout_s:g} s")
    return {node_id: _result(task) if task in ready else no_answer for node_id, task in tasks.items()}


def facts() -> list[NodeFacts]:
    """Return what every node that is alive is and has."""
    described = {node["NodeID"]: node for node in alive()}
    return [_facts(described[node_id], seen) for node_id, seen in each_node(_look).items() if node_id in described]


def own_facts() -> NodeFacts:
    """Return what this machine is and has, without Ray."""
    return NodeFacts(node_id="", address="here", hostname=socket.gethostname(), cpus=float(cpu_count()), **_look())


def own_versions() -> dict[str, str | None]:
    """Return the versions of Python and the packages that must be the same on all nodes."""
    versions: dict[str, str | None] = {"python": platform.python_version()}
    for package in _PACKAGES:
        versions[package] = None
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            versions[package] = importlib.metadata.version(package)
    return versions


def mismatches(known: Sequence[NodeFacts], own: dict[str, str | None] | None = None) -> list[str]:
    """Return a line for each node that did not answer, or has another Python, Ray, torch or (if any) hpo than `own`.

    `own` None: what this process has.
    """
    own = own_versions() if own is None else own
    lines = []
    for one in known:
        # A study sends its own code along.
        names = ["python", "ray", "torch", *(["hpo"] if one.versions.get("hpo") else [])]
        others = [
            f"{name} {there or 'missing'} instead of {own[name]}"
            for name, there in ((name, one.versions.get(name)) for name in names)
            # torch's ``+cpu`` names the build, which may differ.
            if own.get(name) and (there or "").partition("+")[0] != str(own[name]).partition("+")[0]
        ]
        if one.error is not None:
            lines.append(f"{describe(one)} does not answer: {one.error}")
        elif others:
            lines.append(f"{describe(one)} has {', '.join(others)}")
    return lines


def describe(one: NodeFacts) -> str:
    """Return what a person calls a node: ``10.0.0.2 (NVIDIA GeForce RTX 2070, 8 GB)``, ``10.0.0.3 (8 CPUs)``."""
    if one.gpu is None:
        return f"{one.address} ({one.cpus:g} CPUs)"
    return f"{one.address} ({one.gpu}{f', {one.vram_gb:g} GB' if one.vram_gb else ''})"


def clock_offset(node_id: str) -> tuple[float, float]:
    """Return how far a node's clock is ahead of this machine's, and the round trip in which that was measured, in s."""

    # Ray starts a process for the first call, which takes seconds; later calls find it running.
    answers = []
    for _ in range(3):
        asked = time.time()
        there = ray.get(_on(node_id, _now).remote(), timeout=TIMEOUT_S)
        trip = time.time() - asked
        answers.append((trip, there - (asked + trip / 2)))
    trip, offset = min(answers)
    return offset, trip


def _on(node_id: str, function: Callable[..., Any]) -> Any:
    place = NodeAffinitySchedulingStrategy(node_id, soft=False)
    return ray.remote(num_cpus=0)(function).options(max_retries=0, scheduling_strategy=place)


def _result(task: Any) -> Any:
    try:
        return ray.get(task)
    except RayError as error:
        # The last line of Ray's message is what the task raised.
        words = str(getattr(error, "cause", None) or error).strip()
        return NodeError((words.splitlines() or [type(error).__name__])[-1])


def _facts(node: dict[str, Any], seen: dict[str, Any] | NodeError) -> NodeFacts:
    """Combine a node's answer with what Ray knows of it, which comes first: the node does not see a supposed card."""
    label = node["Labels"].get(GPU_LABEL)
    answer = {"error": str(seen)} if isinstance(seen, NodeError) else seen
    from_ray = {
        "node_id": node["NodeID"],
        "address": node["NodeManagerAddress"],
        "hostname": node["NodeManagerHostname"],
        "cpus": node["Resources"].get("CPU", 0.0),
        "gpus": node["Resources"].get("GPU", 0.0),
        "vram_gb": node["Resources"].get(VRAM) or answer.get("vram_gb"),
        "gpu": answer.get("gpu") or (name_of(label) if label else None),
    }
    return NodeFacts(**{**answer, **from_ray})


def _look() -> dict[str, Any]:
    """See what the machine that this runs on has."""
    driver = None
    with contextlib.suppress(ImportError):
        from hpo.machines.gpus import cards

        driver = next((card.driver for card in cards()), None)
    return {
        **_device(),
        "driver": driver,
        "versions": own_versions(),
        "clock": time.time(),
    }


def _device() -> dict[str, Any]:
    with contextlib.suppress(ImportError):
        # Its settings for torch are read when torch is imported, and this process may run a trial later.
        import trainables  # noqa: F401
    try:
        import torch
    except ImportError:
        return {"gpus": 0.0, "vram_gb": None}
    if not torch.cuda.is_available():
        able = torch.cpu.get_capabilities()
        width = 2 if able.get("avx512_bf16") or able.get("amx_bf16") else 4
        return {"gpus": 0.0, "vram_gb": None, "autocast_width": width}
    card = torch.cuda.get_device_properties(0)
    return {
        "gpus": float(torch.cuda.device_count()),
        "vram_gb": round(card.total_memory / 2**30, 2),
        "gpu": card.name,
        "autocast_width": 2 if (card.major, card.minor) >= (7, 5) else 4,
    }


def _now() -> float:
    return time.time()
