"""Ray for the length of a study: one of its own on this machine, or a cluster that runs already."""

import logging
import os
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import ray
from joblib import cpu_count

from hpo.errors import HpoError, UsageError
from hpo.machines.connection import check_answers, is_loopback, resolve, why_refused
from hpo.machines.gpus import cards, name_of
from hpo.machines.placement import VRAM, Node, as_node, registered
from hpo.machines.processes import live_nodes
from hpo.machines.ray_private import import_in_advance, import_paths, listen_on_loopback_alone, show_token
from hpo.machines.ray_start import ray_folder, why_not_started
from hpo.machines.tokens import guard_token, read_token

logger = logging.getLogger(__name__)

LOOKAHEAD = 64
"""Trials that may wait for a machine, as far as Ray Tune is concerned; `Placement.has_room` decides."""

GPU_LABEL = "hpo/gpu"
"""Ray's label of a node that holds its GPU's name."""


@contextmanager
def ray_session(address: str, modules: Sequence[Path] = (), begun: Callable[[], None] | None = None) -> Iterator[str]:
    """Start Ray (``local``) or join a running cluster (``auto``, HOST:PORT), and yield the address.

    Args:
        address: Where.
        modules: Packages, folders or single files, that every node of a cluster is sent.
        begun: Waits for a local Ray that another thread starts by `start_here`; None: none does.

    Raises:
        HpoError: Ray does not start on this machine.
        UsageError: There is no cluster at `address`, it refuses this process, or this machine is none of its nodes.
    """
    # Ray takes SIGTERM for itself when it starts.
    handler = signal.getsignal(signal.SIGTERM)
    try:
        if address == "local":
            (begun or start_here)()
        else:
            _prepare()
            import_in_advance(())
            address = _join(address, modules)
        signal.signal(signal.SIGTERM, handler)
        yield address
    finally:
        ray.shutdown()


def start_here(modules: Sequence[str] = ()) -> None:
    """Start Ray for this machine alone, in whichever thread; its processes import `modules` before they are needed.

    Raises:
        HpoError: It does not start.
    """
    _prepare()
    import_in_advance(modules)
    for cluster in sorted({place.cluster for place in live_nodes()}):
        logger.warning("the cluster at %s runs on this machine, too; --address auto uses it", cluster)
    listen_on_loopback_alone(True)
    guard_token()
    folder, wrong = ray_folder()
    if folder and wrong:
        logger.warning("Ray's files go to %s, for %s", folder, " and ".join(wrong))
    os.environ["RAY_TMPDIR"] = folder or os.environ.get("RAY_TMPDIR", "/tmp")
    _init("local", include_dashboard=False, num_cpus=cpu_count(), resources=_memory_here())


def alive() -> list[dict[str, Any]]:
    """Return Ray's description of each node that is alive."""
    return [node for node in ray.nodes() if node["Alive"]]


def nodes() -> list[Node]:
    """Return what each node that is alive offers."""
    return [as_node(node["Resources"]) for node in alive()]


def use_given_cards() -> None:
    """Let this process of Ray's use no card where it was given none: Ray leaves all of them in its sight."""
    if not ray.get_runtime_context().get_accelerator_ids().get("GPU"):
        os.environ["CUDA_VISIBLE_DEVICES"] = ""


def named(node: dict[str, Any]) -> str:
    """Return what a person calls one of Ray's nodes: ``192.168.1.7 (NVIDIA GeForce RTX 2070, 8 GB)``."""
    about = [
        name_of(node["Labels"].get(GPU_LABEL, "")),
        f"{memory:g} GB" if (memory := node["Resources"].get(VRAM)) else "",
    ]
    known = ", ".join(filter(None, about))
    return f"{node['NodeManagerAddress']} ({known})" if known else str(node["NodeManagerAddress"])


def _prepare() -> None:
    """Settle what Ray reads from the environment, and let it say nothing by itself."""
    # Tune's own handler would swallow the first Ctrl-C; its loggers would write files that nobody reads.
    os.environ["TUNE_DISABLE_SIGINT_HANDLER"] = "1"
    os.environ["TUNE_DISABLE_AUTO_CALLBACK_LOGGERS"] = "1"
    # Tune would write its list of trials again and again, which nobody restores: the ledger has it all.
    os.environ["TUNE_GLOBAL_CHECKPOINT_S"] = "inf"
    # A path that is relative to where hpo was started, such as $HPO_DATA_DIR, shall mean the same in a trial.
    os.environ["RAY_CHDIR_TO_TRIAL_DIR"] = "0"
    os.environ["TUNE_MAX_PENDING_TRIALS_PG"] = str(LOOKAHEAD)
    os.environ["RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO"] = "0"
    # Ray would run trials at niceness 15, where a busy desktop leaves them a thirtieth of a CPU.
    os.environ.setdefault("RAY_worker_niceness", "0")
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    # Tune's newer output prints even when it is set to be silent.
    os.environ["RAY_AIR_NEW_OUTPUT"] = "0"
    # What a user can act on is said in our own words. Ray logs through handlers of its own, past ours.
    for name in ("ray", "ray.tune"):
        logging.getLogger(name).setLevel(logging.CRITICAL)


def _join(address: str, modules: Sequence[Path]) -> str:
    """Connect to a running cluster and return its address."""
    address = resolve(address)
    if address != "auto":
        # Ray itself would try a wrong address for minutes.
        check_answers(address, as_driver=True)
    if read_token():
        show_token()
    # Ray takes 127.0.0.1 for this machine's address in the network, where our clusters on loopback do not listen.
    ours = any(place.cluster == address for place in live_nodes())
    listen_on_loopback_alone(ours and is_loopback(address))
    _init(address, runtime_env={"py_modules": [str(module) for module in modules]} if modules else None)
    return address


def _init(address: str, **settings: Any) -> None:
    # This machine's processes import what this one does; other machines have paths of their own, and are sent modules.
    jobs = import_paths([path for path in sys.path if path] if address == "local" else [])
    try:
        ray.init(address=address, log_to_driver=False, logging_level=logging.CRITICAL, job_config=jobs, **settings)
    except SystemExit as error:
        # Ray's own handler of SIGTERM while it starts.
        raise KeyboardInterrupt from error
    except Exception as error:
        # Ray raises many kinds, plain ones among them.
        said = f"{error}\n{error.__cause__ or ''}".strip()
        if address == "local":
            why = why_not_started(said, os.environ["RAY_TMPDIR"])
            raise HpoError(f"Ray does not start on this machine: {why}") from error
        raise UsageError(f"--address {address}: {why_refused(said, address)}") from error


def _memory_here() -> dict[str, float]:
    """Return the memory of this machine's GPUs, each as the smallest: a single node of Ray cannot tell them apart."""
    here = cards()
    least = registered(min((card.memory_gb for card in here), default=0.0))
    return {VRAM: len(here) * least} if least else {}
