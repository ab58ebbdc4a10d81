"""A small Ray cluster of one's own: start its head, join it, see it, stop this machine's part of it."""

import contextlib
import json
import socket
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import psutil
import ray

from hpo.errors import HpoError, UsageError
from hpo.machines import connection, processes, ray_start, tokens
from hpo.machines.gpus import Part, label_of, name_of
from hpo.machines.placement import VRAM, registered
from hpo.machines.ray_private import LOOPBACK_RAY, resources_left
from hpo.machines.session import GPU_LABEL, ray_session

_START_S = 120.0
"""Ray starts within 10 s on two busy cores."""
_GRACE_S = 10.0
_OUTSIDE = "192.0.2.1"
"""An address kept for documentation (RFC 5737), which no packet is sent to."""
_PATIENCE = {"grpc_keepalive_timeout_ms": 120_000}
"""If the network hangs, a node's process would close its connections after 20 s. The driver would not notice, and would
wait for minutes. A node that is unreachable for longer than this was given up long before."""


@dataclass(frozen=True)
class NodeRow:
    """One node, as `hpo cluster status` shows it."""

    address: str
    alive: bool
    gpu: str | None
    vram_gb: float | None
    cpus: float
    cpus_in_use: float
    gpus: float
    gpus_in_use: float


def outgoing_ip(towards: str = _OUTSIDE) -> str:
    """Return this machine's own address on the way to another one.

    Raises:
        UsageError: There is no way there, and the machine's name has no address but loopback's.
    """
    with contextlib.suppress(OSError), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as way:
        way.connect((towards, 9))
        return str(way.getsockname()[0])
    with contextlib.suppress(OSError):
        named = socket.gethostbyname(socket.gethostname())
        # Debian gives a machine's name 127.0.1.1, which means another machine to every other.
        if not named.startswith("127."):
            return named
    raise UsageError("this machine's address cannot be found out; --node-ip gives it.")


def start_head(node_ip: str, port: int, offered: Sequence[Part]) -> str:
    """Start a cluster on this machine, with a token that is made where there is none yet, and return its address.

    Raises:
        UsageError: The address is not this machine's, or the port is taken.
        HpoError: Ray does not start; what of it did is stopped again.
    """
    place = processes.Place(f"{node_ip}:{port}", node_ip)
    _check_own(node_ip)
    with contextlib.suppress(OSError):
        socket.create_connection((node_ip, port), timeout=1.0).close()
        raise UsageError(connection.why_refused("already in use", place.cluster))
    tokens.guard_token()
    with _all_or_nothing(place):
        settings = ["--include-dashboard", "false", "--system-config", json.dumps(_PATIENCE)]
        _start(["--head", "--port", str(port), *settings], offered[0], place)
        for part in offered[1:]:
            _start(["--address", place.cluster], part, place)
    return place.cluster


def join(address: str, node_ip: str, offered: Sequence[Part]) -> None:
    """Let this machine join the cluster at HOST:PORT.

    Raises:
        UsageError: The cluster does not answer, wants another token, or has this machine already.
        HpoError: Ray does not start; what of it did is stopped again.
    """
    place = processes.Place(address, node_ip)
    _check_own(node_ip)
    if place in processes.live_nodes():
        raise UsageError(f"{node_ip} is a node of the cluster at {address} already; `hpo cluster stop` takes it out.")
    connection.check_answers(address)
    with _all_or_nothing(place):
        for part in offered:
            _start(["--address", address], part, place)


def nodes(address: str) -> tuple[str, list[NodeRow]]:
    """Return the address of the cluster that `address` (``auto``, HOST:PORT) means, and its nodes, the dead ones last.

    Raises:
        UsageError: There is no such cluster, or this machine is none of its nodes.
    """
    with ray_session(address) as found:
        free = resources_left()
        rows = [_row(node, free.get(node["NodeID"])) for node in ray.nodes()]
    return found, sorted(rows, key=lambda row: (not row.alive, row.address))


def stop(address: str | None) -> dict[str, int]:
    """Stop what `hpo cluster` started on this machine, and no other Ray; return how many processes of each cluster.

    Args:
        address: A cluster's, HOST:PORT; None: all.
    """
    found: dict[str, list[psutil.Process]] = {}
    for place, here in processes.running().items():
        if address in (None, place.cluster):
            found.setdefault(place.cluster, []).extend(here)
    for of_cluster in found.values():
        _end(of_cluster)
    return {cluster: len(of_cluster) for cluster, of_cluster in found.items()}


def _end(ending: list[psutil.Process]) -> None:
    """End the nodes first, which end their trials, and the control service last: nodes sign off there."""
    raylets: list[psutil.Process] = []
    services: list[psutil.Process] = []
    helpers: list[psutil.Process] = []
    for one in ending:
        with contextlib.suppress(psutil.Error):
            group = raylets if processes.is_raylet(one) else services if one.name() == "gcs_server" else helpers
            group.append(one)
    for raylet in raylets:
        with contextlib.suppress(psutil.Error):
            # A trial's process names itself anew, and no longer shows its environment.
            helpers += raylet.children(recursive=True)
    for group in (raylets, helpers, services):
        for one in group:
            with contextlib.suppress(psutil.Error):
                one.terminate()
        for one in psutil.wait_procs(group, _GRACE_S)[1]:
            with contextlib.suppress(psutil.Error):
                one.kill()


def _start(arguments: Sequence[str], part: Part, place: processes.Place) -> None:
    """Start one Ray node.

    Raises:
        HpoError: Ray refuses.
    """
    program = ["-c", LOOPBACK_RAY] if connection.is_loopback(place.cluster) else ["-m", "ray.scripts.scripts"]
    # -P: a folder named ray in the working directory is none of Ray's.
    command = [sys.executable, "-P", *program, "start", "--node-ip-address", place.node_ip, "--disable-usage-stats"]
    # Two nodes of one machine would otherwise take their processes' ports from the same range.
    command += ["--min-worker-port", "0", "--max-worker-port", "0", *arguments, *_offering(part)]
    # CUDA numbers a machine's cards by their speed; PCI_BUS_ID makes it number them as nvidia-smi does.
    card = {} if part.card is None else {"CUDA_DEVICE_ORDER": "PCI_BUS_ID", "CUDA_VISIBLE_DEVICES": str(part.card)}
    folder, _ = ray_start.ray_folder()
    if not folder:
        raise HpoError(f"Ray does not start on {place.node_ip}: {ray_start.why_not_started('', folder)}.")
    environment = tokens.environment(**{processes.MARK: " ".join(place), "RAY_TMPDIR": folder, **card})
    try:
        answer = subprocess.run(
            command,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=_START_S,
            check=False,
            # The terminal that it was started from may be closed.
            start_new_session=True,
        )
    except subprocess.TimeoutExpired as error:
        raise HpoError(f"Ray did not start on {place.node_ip} within {_START_S:g} s.") from error
    if answer.returncode:
        raise HpoError(connection.why_refused(answer.stdout, place.cluster))


def _offering(part: Part) -> list[str]:
    """Return the options of `ray start` for a part."""
    options = ["--num-gpus", str(part.gpus), "--num-cpus", str(part.cpus)]
    if part.vram_gb:
        options += ["--resources", json.dumps({VRAM: registered(part.vram_gb)})]
    if part.name:
        options += ["--labels", f"{GPU_LABEL}={label_of(part.name)}"]
    return options


@contextlib.contextmanager
def _all_or_nothing(place: processes.Place) -> Iterator[None]:
    try:
        yield
    except BaseException:
        _end(processes.running().get(place, []))
        raise


def _check_own(node_ip: str) -> None:
    with socket.socket() as mine:
        try:
            mine.bind((node_ip, 0))
        except OSError as error:
            raise UsageError(f"--node-ip {node_ip} is no address of this machine ({error.strerror}).") from error


def _row(node: dict[str, Any], free: dict[str, float] | None) -> NodeRow:
    offered, label = node["Resources"], node["Labels"].get(GPU_LABEL)
    free = offered if free is None else free

    def in_use(resource: str) -> float:
        return float(round(offered.get(resource, 0.0) - free.get(resource, 0.0), 4))

    return NodeRow(
        address=node["NodeManagerAddress"],
        alive=node["Alive"],
        gpu=name_of(label) if label else None,
        vram_gb=offered.get(VRAM),
        cpus=offered.get("CPU", 0.0),
        cpus_in_use=in_use("CPU"),
        gpus=offered.get("GPU", 0.0),
        gpus_in_use=in_use("GPU"),
    )
