"""Everything of Ray that is not public, each with its reason: what a new release of Ray is checked for first.

Written for Ray 2.60. Ray is imported by the functions, since it reads its environment when it is imported.
"""

import functools
import os
from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ray import tune
    from ray.job_config import JobConfig

NOT_A_NODE = "this machine is no node of that cluster"

ASK_CLUSTER = f"""
import sys
from ray._private.services import find_node_ids
from ray._raylet import GcsClient
nodes = GcsClient(address=sys.argv[1]).get_all_node_info(timeout=10)
if sys.argv[2] == "driver" and not {{node.hex() for node in nodes}} & set(find_node_ids()):
    sys.exit("{NOT_A_NODE}")
"""
"""A program that asks a cluster once; Ray's own start asks for 20 s with a wrong token and for 13 minutes with a wrong
address."""

LOOPBACK_RAY = (
    "from ray._private import services; services.resolve_ip_for_localhost = str;"
    " from ray.scripts.scripts import main; main()"
)
"""A program that is `ray` but for this: it takes 127.0.0.1 for itself, where `ray start` takes it for this machine's
address in its network, and would listen there."""


def listen_on_loopback_alone(alone: bool) -> None:
    """Let the Ray that this process starts, or its driver in a cluster, listen on loopback and nowhere else.

    Where Ray takes clusters for impossible, as on macOS, it does; there is no public way to that.
    """
    from ray._private import ray_constants

    ray_constants.ENABLE_RAY_CLUSTER = not alone


def import_in_advance(modules: Sequence[str]) -> None:
    """Let the processes that a Ray to be started here keeps in waiting import `modules`, and run Tune's trials.

    Tune names environment variables for its trials, for which Ray starts processes anew. On one machine its processes
    have this one's variables anyway; on others they would not, hence without modules Tune names them again.
    """
    from ray.tune.execution import class_cache

    defaults, passed_on = _tunes_variables()
    os.environ["RAY_preload_python_modules"] = ",".join(modules)  # noqa: SIM112 - Ray spells it so
    if modules:
        # Placing trials takes all CPUs, after which Ray ends, within a second, the processes that wait for them.
        os.environ.setdefault("RAY_idle_worker_killing_time_threshold_ms", "60000")
    os.environ |= defaults if modules else {}
    class_cache.DEFAULT_ENV_VARS = {} if modules else defaults
    class_cache.ENV_VARS_TO_PROPAGATE = set() if modules else passed_on


@functools.cache
def _tunes_variables() -> tuple[dict[str, str], set[str]]:
    """Return what Tune sets for its trials, and the names of what it passes on, as it came."""
    from ray.tune.execution import class_cache

    return class_cache.DEFAULT_ENV_VARS, class_cache.ENV_VARS_TO_PROPAGATE


def show_token() -> None:
    """Let this process show the cluster its token; Ray reads the setting from the environment only when imported."""
    from ray._private.authentication.authentication_token_setup import _enable_token_auth

    _enable_token_auth()


def resources_left() -> dict[str, dict[str, float]]:
    """Return what is free of each node, by its id; the public call adds the nodes up."""
    from ray._private.state import available_resources_per_node

    free: dict[str, dict[str, float]] = available_resources_per_node()
    return free


def preferring_node(bundles: list[dict[str, float]], node_id: str) -> "tune.PlacementGroupFactory":
    """Return resources that are taken on a node, if it has them; publicly a trial cannot say where it wants to run."""
    from ray import tune

    return tune.PlacementGroupFactory(bundles, strategy="STRICT_PACK", _soft_target_node_id=node_id)


def import_paths(paths: list[str]) -> "JobConfig":
    """Return the settings by which Ray's processes look for modules in `paths` first, in that order.

    Ray would look in the working directory before everything else, where any folder may bear the name of a package.
    """
    from ray.job_config import JobConfig

    # Ray puts one after the other in front. It adds the working directory and the script's unless a job has a folder
    # of its own.
    settings = JobConfig(_py_driver_sys_path=paths[::-1])
    settings._runtime_env_has_working_dir = lambda: True  # type: ignore[method-assign]
    return settings
