"""The way to a Ray cluster: its address, whether it answers and takes this machine; and why it refuses, in one line."""

import os
import re
import socket
import subprocess
import sys

from hpo.errors import UsageError
from hpo.machines.processes import live_nodes
from hpo.machines.ray_private import ASK_CLUSTER, NOT_A_NODE
from hpo.machines.tokens import environment, read_token

LOOPBACK = "127.0.0.1"
"""The one address for which Ray 2.60 listens on loopback alone; for 127.0.0.2, as for all others, it listens on every
address of the machine."""
_PROBE_S = 3.0
_ANSWER_S = 30.0
"""A cluster answers within a second, Python's start included; what is no cluster may never answer."""

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
        rf"{NOT_A_NODE}|No node info found|raylet_ipc_client.*Failed to connect to socket",
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
    """Turn Ray's words for a refusal, a traceback or its last line, into one line with the fix.

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
    for pattern, line in _REFUSALS:
        if re.search(pattern, words):
            return line.format(address, address.rpartition(":")[2])
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
    command = [sys.executable, "-P", "-c", ASK_CLUSTER, address, "driver" if as_driver else "node"]
    try:
        answer = subprocess.run(
            command, env=environment(), capture_output=True, text=True, timeout=_ANSWER_S, check=False
        )
    except subprocess.TimeoutExpired as error:
        raise UsageError(why_refused("timed out", address)) from error
    if answer.returncode:
        none = "" if read_token() else "no authentication token was found"
        raise UsageError(why_refused(answer.stderr.replace("InvalidAuthToken", none), address))


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
