"""What a machine needs to join a Ray cluster: an address, a token, an answer; and why Ray refuses, in one line.

Ray itself is not imported here: it reads its token and whether to show it from the environment, when it is imported.
"""

import contextlib
import os
import re
import socket
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import psutil

from hpo.errors import UsageError

LOOPBACK = "127.0.0.1"
"""The one address for which Ray 2.60 listens on loopback alone; for 127.0.0.2, as for all others, it listens on every
address of the machine."""
MARK = "HPO_CLUSTER"
"""In the environment of each of Ray's processes that `hpo cluster` starts, and only there: ``CLUSTER NODE_IP``."""

_PROBE_S = 3.0
_ANSWER_S = 30.0
"""A cluster answers within a second, Python's start included; what is no cluster may never answer."""
_NOT_A_NODE = "this machine is no node of that cluster"
_ASK = f"""
import sys
from ray._private.services import find_node_ids
from ray._raylet import GcsClient
nodes = GcsClient(address=sys.argv[1]).get_all_node_info(timeout=10)
if sys.argv[2] == "driver" and not {{node.hex() for node in nodes}} & set(find_node_ids()):
    sys.exit("{_NOT_A_NODE}")
"""
"""Ray's own start asks for 20 s with a wrong token and for 13 minutes with a wrong address; this asks once."""

_TOKEN_LINE = "paste the line that `hpo cluster head` prints on its machine (RAY_AUTH_TOKEN=... hpo cluster join {0})"
_REFUSALS = (
    (
        r"no authentication token was found",
        f"the cluster at {{0}} wants a token, and there is none here: {_TOKEN_LINE}.",
    ),
    (
        r"InvalidAuthToken|token is (missing|invalid) or incorrect",
        "the cluster at {0} refuses this machine's token (RAY_AUTH_TOKEN, else ~/.ray/auth_token): the one of another"
        f" cluster, or none; {_TOKEN_LINE}.",
    ),
    (
        rf"{_NOT_A_NODE}|No node info found|raylet_ipc_client.*Failed to connect to socket",
        "the cluster at {0} answers, but this machine is none of its nodes, and Ray lets only nodes run anything:"
        " `hpo cluster join {0}` first.",
    ),
    (
        r"already in use|already running at|Failed to start the grpc server",
        "port {1} of this machine is taken: --port chooses another, `hpo cluster stop` ends a cluster of this machine.",
    ),
    (
        r"Could not find any running Ray instance",
        "no Ray cluster runs on this machine: `hpo cluster head` starts one, `hpo cluster join HOST:PORT` joins one.",
    ),
    (
        r"(?i)unable to connect|timed out|refused|unreachable|no route|name or service|failed to connect",
        "no Ray cluster answers at {0}: see that the address is right, that `hpo cluster head` runs there, and that its"
        " firewall lets this machine through.",
    ),
)
_VERSIONS = re.compile(
    r"(?:Version mismatch: )?The cluster was started with:\s+Ray: (\S+)\s+Python: (\S+)"
    r"\s+This process.*?was started with:\s+Ray: (\S+)\s+Python: (\S+)",
    re.DOTALL,
)


def why_refused(words: str, address: str) -> str:
    """Turn what Ray says when it refuses, a traceback or its last line, into one line with the mend.

    Args:
        words: Ray's.
        address: The cluster's, HOST:PORT or ``auto``.
    """
    versions = _VERSIONS.search(words)
    if versions:
        theirs, ours = versions.groups()[:2], versions.groups()[2:]
        return (
            f"the cluster at {address} runs Ray {theirs[0]} on Python {theirs[1]}, this machine has Ray {ours[0]} on"
            f" Python {ours[1]}: install the same on both."
        )
    for pattern, mend in _REFUSALS:
        if re.search(pattern, words):
            return mend.format(address, address.rpartition(":")[2])
    lines = [line.strip() for line in words.splitlines() if line.strip()]
    return f"Ray refuses at {address}: {lines[-1][:300] if lines else 'it says nothing'}"


def split_address(address: str) -> tuple[str, int]:
    """Return the host and the port of HOST:PORT.

    Raises:
        UsageError: It is not of that form.
    """
    host, _, port = address.rpartition(":")
    if not host or not port.isdecimal() or not 0 < int(port) < 65536:
        raise UsageError(f"{address}: HOST:PORT is needed, as `hpo cluster head` prints it, such as 192.168.1.7:6379.")
    return host, int(port)


def is_loopback(address: str) -> bool:
    """Return whether Ray listens on loopback alone where its node has `address`, with or without a port."""
    return address.partition(":")[0] == LOOPBACK


def check_answers(address: str, *, as_driver: bool = False) -> None:
    """Ask the cluster at HOST:PORT once whether it takes this machine's token; Ray itself would try for minutes.

    Args:
        address: The cluster's.
        as_driver: Whether this machine must be one of its nodes already.

    Raises:
        UsageError: It does not, or there is none.
    """
    try:
        socket.create_connection(split_address(address), timeout=_PROBE_S).close()
    except OSError as error:
        raise UsageError(why_refused(f"unable to connect: {error}", address)) from error
    command = [sys.executable, "-P", "-c", _ASK, address, "driver" if as_driver else "node"]
    try:
        answer = subprocess.run(
            command, env=environment(), capture_output=True, text=True, timeout=_ANSWER_S, check=False
        )
    except subprocess.TimeoutExpired as error:
        raise UsageError(why_refused("timed out", address)) from error
    if answer.returncode:
        none = "" if read_token() else "no authentication token was found"
        raise UsageError(why_refused(answer.stderr.replace("InvalidAuthToken", none), address))


def environment(**more: str) -> dict[str, str]:
    """Return the environment of a process of Ray's: it shows this machine's token, where there is one."""
    # A cluster without a token takes those who show one.
    mode = {"RAY_AUTH_MODE": "token"} if read_token() else {}
    return {**mode, **os.environ, "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0", **more}


def token_path() -> Path:
    """Return the file that Ray reads the token from: ``$RAY_AUTH_TOKEN_PATH``, else ``~/.ray/auth_token``."""
    return Path(os.environ.get("RAY_AUTH_TOKEN_PATH") or Path.home() / ".ray" / "auth_token")


def read_token() -> str | None:
    """Return the token that Ray shows here: ``$RAY_AUTH_TOKEN``, else the file's; None: there is none."""
    if os.environ.get("RAY_AUTH_TOKEN"):
        return os.environ["RAY_AUTH_TOKEN"].strip()
    with contextlib.suppress(FileNotFoundError):
        return token_path().read_text(encoding="utf-8").strip() or None
    return None


def keep_token(token: str) -> bool:
    """Write the token to its file, for its owner's eyes only; return whether the file lacked it."""
    path = token_path()
    with contextlib.suppress(FileNotFoundError):
        if path.read_text(encoding="utf-8").strip() == token:
            return False
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w", encoding="utf-8") as file:  # noqa: PTH123
        path.chmod(0o600)
        file.write(token)
    return True


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


def resolve(address: str) -> str:
    """Return the address that ``auto`` means: ``$RAY_ADDRESS``, else that of the cluster that `hpo cluster` runs here.

    ``auto`` is returned as it is where there is neither, and Ray may look for itself.

    Raises:
        UsageError: Several such clusters run here.
    """
    if address != "auto":
        return address
    own = os.environ.get("RAY_ADDRESS")
    here = [own] if own else sorted({place.cluster for place in live_nodes()})
    if len(here) > 1:
        raise UsageError(f"--address auto: several clusters run on this machine ({', '.join(here)}); name one.")
    return here[0] if here else address
