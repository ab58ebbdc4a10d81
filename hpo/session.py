"""Ray for the length of a study: one of its own on this machine, or a cluster that runs already."""

import logging
import os
import signal
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import ray
from ray._private import ray_constants
from ray._private.authentication.authentication_token_setup import maybe_enable_token_auth_if_token_available
from ray.exceptions import AuthenticationError

from hpo.errors import UsageError
from hpo.gpus import cards
from hpo.joining import why_refused
from hpo.placement import VRAM, Node, as_node

LOOKAHEAD = 64
"""Trials that may wait for a machine, as far as Ray Tune is concerned; `Placement.has_room` decides."""

GPU_LABEL = "hpo/gpu"
"""Ray's label of a node that holds its GPU's name."""


@contextmanager
def ray_session(address: str, modules: Sequence[Path] = ()) -> Iterator[None]:
    """Start Ray (``local``) or join a running cluster (``auto``, HOST:PORT).

    Args:
        address: Where.
        modules: Packages, folders or single files, that every node of a cluster is sent.

    Raises:
        UsageError: There is no cluster at `address`, or it refuses this process.
    """
    # Tune's own handler would swallow the first Ctrl-C; its loggers would write files that nobody reads.
    os.environ["TUNE_DISABLE_SIGINT_HANDLER"] = "1"
    os.environ["TUNE_DISABLE_AUTO_CALLBACK_LOGGERS"] = "1"
    os.environ["TUNE_MAX_PENDING_TRIALS_PG"] = str(LOOKAHEAD)
    os.environ["RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO"] = "0"
    # Tune's newer output prints even when it is told to be silent.
    os.environ["RAY_AIR_NEW_OUTPUT"] = "0"
    logging.getLogger("ray.tune").setLevel(logging.CRITICAL)
    # Ray takes SIGTERM for itself when it starts.
    handler = signal.getsignal(signal.SIGTERM)
    try:
        _connect(address, modules)
        signal.signal(signal.SIGTERM, handler)
        yield
    finally:
        ray.shutdown()


def alive() -> list[dict[str, Any]]:
    """Return Ray's description of each node that is alive."""
    return [node for node in ray.nodes() if node["Alive"]]


def nodes() -> list[Node]:
    """Return what each node that is alive offers."""
    return [as_node(node["Resources"]) for node in alive()]


def named(node: dict[str, Any]) -> str:
    """Return what a person calls one of Ray's nodes: ``192.168.1.7 (NVIDIA-GeForce-RTX-2070, 8 GB)``."""
    about = [node["Labels"].get(GPU_LABEL, ""), f"{memory:g} GB" if (memory := node["Resources"].get(VRAM)) else ""]
    known = ", ".join(filter(None, about))
    return f"{node['NodeManagerAddress']} ({known})" if known else str(node["NodeManagerAddress"])


def _connect(address: str, modules: Sequence[Path]) -> None:
    local = address == "local"
    # Where Ray takes clusters for impossible, as on macOS, it listens on loopback alone; there is no other way to that.
    ray_constants.ENABLE_RAY_CLUSTER = not local
    place: dict[str, Any] = {"resources": _memory_here()} if local else {}
    if not local:
        maybe_enable_token_auth_if_token_available(warn_if_disabled=False)
        place = {"runtime_env": {"py_modules": [str(module) for module in modules]}}
    try:
        ray.init(
            address=address,
            include_dashboard=False if local else None,
            log_to_driver=False,
            logging_level=logging.CRITICAL,
            **place,
        )
    except (ConnectionError, ValueError, RuntimeError, AuthenticationError) as error:
        raise UsageError(f"--address {address}: {why_refused(str(error), address)}") from error


def _memory_here() -> dict[str, float]:
    """Return the memory of this machine's GPUs, each as the smallest: a single node of Ray cannot tell them apart."""
    here = cards()
    return {VRAM: len(here) * min(card.memory_gb for card in here)} if here else {}
