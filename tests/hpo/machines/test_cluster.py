"""`hpo cluster`: the parts that decide, and two nodes on loopback, started, joined, seen and stopped for real."""

import dataclasses
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest
from hypothesis import given
from hypothesis import strategies as st
from ray._private.label_utils import validate_node_label_syntax

from hpo.errors import UsageError
from hpo.machines import processes
from hpo.machines.connection import split_address, why_refused
from hpo.machines.gpus import Card, Part, label_of, name_of, parse, parts, visible
from hpo.machines.nodes import NodeFacts, describe, mismatches
from hpo.machines.processes import Place
from hpo.machines.tokens import keep_token, read_token

HPO = Path(sys.executable).with_name("hpo")
TWO_CARDS = """\
0, NVIDIA GeForce RTX 3060, 12288, 535.183.01, GPU-8932f937-d72c-4106-c12f-20bd9faed9f6
1, NVIDIA GeForce RTX 2070, 8192, 535.183.01, GPU-1a7e5c2b-0c5d-4a43-9d55-7f5f3c1f2a10
"""
RTX_3060 = Card(0, "NVIDIA GeForce RTX 3060", 12.0, "535.183.01", "GPU-8932f937-d72c-4106-c12f-20bd9faed9f6")
RTX_2070 = Card(1, "NVIDIA GeForce RTX 2070", 8.0, "535.183.01", "GPU-1a7e5c2b-0c5d-4a43-9d55-7f5f3c1f2a10")


def test_cards_are_read_from_the_drivers_table() -> None:
    assert parse(TWO_CARDS) == (RTX_3060, RTX_2070)


def test_a_card_without_memory_of_its_own_is_read() -> None:
    (card,) = parse("0, NVIDIA GB10, [N/A], 580.95.05, GPU-1\n")

    assert card == Card(0, "NVIDIA GB10", 0.0, "580.95.05", "GPU-1")


@pytest.mark.parametrize("words", ["", "No devices were found\n", "NVIDIA-SMI has failed because it couldn't, so, it"])
def test_what_is_no_table_holds_no_card(words: str) -> None:
    assert parse(words) == ()


@given(
    st.lists(
        st.tuples(st.from_regex(r"[A-Z][A-Za-z0-9 -]{0,30}[A-Za-z0-9]", fullmatch=True), st.integers(1, 200_000)),
        max_size=8,
    )
)
def test_every_card_of_any_table_is_read(found: list[tuple[str, int]]) -> None:
    table = "".join(f"{index}, {name}, {mib}, 550.1, GPU-{index}\n" for index, (name, mib) in enumerate(found))

    assert parse(table) == tuple(Card(i, name, mib / 1024, "550.1", f"GPU-{i}") for i, (name, mib) in enumerate(found))


@pytest.mark.parametrize(
    ("listed", "expected"),
    [
        (None, (RTX_3060, RTX_2070)),
        ("1", (RTX_2070,)),
        ("1,0", (RTX_2070, RTX_3060)),
        ("0,5,1", (RTX_3060,)),
        ("", ()),
        ("-1", ()),
        ("GPU-1a7e5c2b", (RTX_2070,)),
        ("GPU-1a7e5c2b,GPU-0", (RTX_2070,)),
        ("MIG-8932f937-d72c", (dataclasses.replace(RTX_3060, memory_gb=0.0),)),
    ],
)
def test_cards_that_are_hidden_are_left_out(listed: str | None, expected: tuple[Card, ...]) -> None:
    assert visible((RTX_3060, RTX_2070), listed) == expected


@given(st.text(max_size=200))
def test_any_cards_name_is_a_label_that_ray_takes(name: str) -> None:
    validate_node_label_syntax({"hpo/gpu": label_of(name)})


def test_a_cards_name_comes_back_from_its_label() -> None:
    assert label_of(RTX_3060.name) == "NVIDIA_GeForce_RTX_3060"
    assert name_of(label_of(RTX_3060.name)) == RTX_3060.name


def test_two_cards_become_two_nodes_with_their_own_memory() -> None:
    offered = parts((RTX_3060, RTX_2070), 9, cpus=None, gpus=None, vram_gb=None)

    assert offered == (Part(5, 1, 12.0, RTX_3060.name, 0), Part(4, 1, 8.0, RTX_2070.name, 1))


def test_one_card_gets_the_machine() -> None:
    assert parts((RTX_3060,), 8, cpus=None, gpus=None, vram_gb=None) == (Part(8, 1, 12.0, RTX_3060.name, 0),)
    assert parts((RTX_3060, RTX_2070), 8, cpus=6, gpus=1, vram_gb=11.5) == (Part(6, 1, 11.5, RTX_3060.name, 0),)


def test_a_machine_without_a_card_offers_its_cpus_or_supposes_some() -> None:
    assert parts((), 8, cpus=None, gpus=None, vram_gb=None) == (Part(8),)
    assert parts((RTX_3060,), 8, cpus=2, gpus=0, vram_gb=None) == (Part(2),)
    assert parts((), 3, cpus=None, gpus=2, vram_gb=8) == (Part(2, 1, 8, "logical"), Part(1, 1, 8, "logical"))


@pytest.mark.parametrize(
    ("cards", "gpus", "vram_gb", "words"),
    [((RTX_3060,), 2, None, "--gpus 2"), ((), None, 8.0, "--vram-gb"), ((RTX_3060,), 0, 8.0, "--vram-gb")],
)
def test_cards_that_are_not_there_are_refused(
    cards: tuple[Card, ...], gpus: int | None, vram_gb: float | None, words: str
) -> None:
    with pytest.raises(UsageError, match=words):
        parts(cards, 8, cpus=None, gpus=gpus, vram_gb=vram_gb)


TOKEN_HELP = (
    " Ensure that the token for the cluster is available in a local file (e.g., ~/.ray/auth_token or via"
    " RAY_AUTH_TOKEN_PATH) or as the `RAY_AUTH_TOKEN` environment variable. To generate a token for local development,"
    " use `ray get-auth-token --generate` For remote clusters, ensure that the token is propagated to all nodes of the"
    " cluster when token authentication is enabled."
)
WORDS_OF_RAY = {
    # What Ray 2.60.0 said, from `ray start` and `ray.init`, tracebacks cut to their last lines.
    "ray.exceptions.AuthenticationError: Token authentication is enabled but no authentication token was found."
    + TOKEN_HELP: "wants a token, and there is none here",
    "ray.exceptions.AuthenticationError: RPC error: InvalidAuthToken: Authentication token is missing or incorrect."
    + TOKEN_HELP: "refuses this machine's token",
    "[2026-11-24 21:00:05,655 W 11656 11656] gcs_client.cc:210: Failed to get cluster ID from GCS server:"
    " Unauthenticated: RPC error: InvalidAuthToken: Authentication token is missing or incorrect\n"
    "ConnectionError: Failed to connect to Ray cluster at 10.0.0.1:6379": "refuses this machine's token",
    "RuntimeError: Version mismatch: The cluster was started with:\n    Ray: 2.60.0\n    Python: 3.11.7\n"
    "This process on node 192.0.2.2 was started with:\n    Ray: 2.59.0\n    Python: 3.11.7\n": "runs Ray 2.60.0 on"
    " Python 3.11.7, this machine has Ray 2.59.0 on Python 3.11.7",
    "ConnectionError: Ray is trying to start at 127.0.0.1:6379, but is already running at 127.0.0.1:6379. Please"
    " specify a different port using the `--port` flag of `ray start` command.": "port 6379 of this machine is taken",
    "(gcs_server) grpc_server.cc:134:  An unexpected system state has occurred. Check failed: server_ Failed to start"
    " the grpc server. The specified port is 6379. If the server startup error message is `Address already in use`, it"
    " indicates the server fails to start because the port is already used": "port 6379 of this machine is taken",
    "ray.exceptions.RpcError: Timed out while waiting for GCS to become available.\n": "no Ray cluster answers at",
    "Failed to connect to Ray cluster at 10.0.0.1:6379": "no Ray cluster answers at",
    "unable to connect: [Errno 111] Connection refused": "no Ray cluster answers at",
    "Could not find any running Ray instance. Please specify the one to connect to by setting `--address`": "`hpo"
    " cluster head` starts one",
    "[2026-11-24 21:25:16,596 C 22458 22458] raylet_ipc_client.cc:85: Failed to connect to socket at"
    " address:/tmp/ray/session_2026-11-24_21-24-59_999950_22259/sockets/raylet": "this machine is none of its nodes",
    "Traceback (most recent call last):\nValueError: something else\n\n": "Ray refuses at 10.0.0.1:6379: ValueError:"
    " something else",
    "": "Ray refuses at 10.0.0.1:6379: it says nothing",
}


@pytest.mark.parametrize(("words", "reason"), WORDS_OF_RAY.items())
def test_a_refusal_of_rays_becomes_one_line(words: str, reason: str) -> None:
    line = why_refused(words, "10.0.0.1:6379")

    assert reason in line
    assert "\n" not in line


@given(st.text())
def test_whatever_ray_says_is_one_line(words: str) -> None:
    assert len(why_refused(words, "10.0.0.1:6379").splitlines()) == 1


@pytest.mark.parametrize("address", ["", "host", "host:", ":6379", "host:port", "host:0", "host:65536"])
def test_an_address_without_host_or_port_is_refused(address: str) -> None:
    with pytest.raises(UsageError, match="HOST:PORT"):
        split_address(address)


@pytest.fixture
def _no_token(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("RAY_AUTH_TOKEN", raising=False)
    monkeypatch.delenv("RAY_AUTH_TOKEN_PATH", raising=False)


@pytest.mark.usefixtures("_no_token")
def test_a_token_is_kept_for_its_owners_eyes_and_only_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / ".ray" / "auth_token"
    assert read_token() is None

    assert keep_token("a" * 64)
    file.chmod(0o644)
    assert not keep_token("a" * 64)
    assert keep_token("b" * 64)

    assert read_token() == "b" * 64
    assert file.stat().st_mode & 0o777 == 0o600
    monkeypatch.setenv("RAY_AUTH_TOKEN", "c" * 64)
    assert read_token() == "c" * 64


@pytest.mark.usefixtures("_no_token")
def test_the_tokens_file_may_lie_elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_AUTH_TOKEN_PATH", str(tmp_path / "token"))

    keep_token("a" * 64)

    assert (tmp_path / "token").read_text("utf-8") == "a" * 64
    assert read_token() == "a" * 64


def test_a_process_that_is_none_of_rays_is_not_taken_for_one() -> None:
    environment = {**os.environ, processes.MARK: "10.0.0.1:6379 10.0.0.1"}
    with subprocess.Popen(["sleep", "60"], env=environment) as process:
        try:
            assert Place("10.0.0.1:6379", "10.0.0.1") not in processes.running()
        finally:
            process.kill()


def node(**facts: object) -> NodeFacts:
    known = {"node_id": "n", "address": "10.0.0.2", "hostname": "h", "cpus": 8.0, "gpus": 0.0, "vram_gb": None}
    return NodeFacts(**known | facts)  # type: ignore[arg-type] # a test's shorthand


OWN: dict[str, str | None] = {"python": "3.11.7", "ray": "2.60.0", "torch": "2.14.1+cpu", "hpo": "0.1.0"}


def test_nodes_are_called_by_what_tells_them_apart() -> None:
    assert describe(node()) == "10.0.0.2 (8 CPUs)"
    assert describe(node(gpu="NVIDIA GeForce RTX 2070", vram_gb=8.0)) == "10.0.0.2 (NVIDIA GeForce RTX 2070, 8 GB)"


def test_nodes_that_do_not_fit_are_named_in_one_line_each() -> None:
    fitting = node(versions={**OWN, "torch": "2.14.1+cu130"})
    without = node(versions={**OWN, "hpo": None})
    older = node(versions={**OWN, "python": "3.11.9", "torch": "2.13.0", "hpo": "0.0.9"})
    silent = node(error="no answer within 90 s")

    assert mismatches([fitting, without, older, silent, node(versions={**OWN, "torch": None})], OWN) == [
        "10.0.0.2 (8 CPUs) has python 3.11.9 instead of 3.11.7, torch 2.13.0 instead of 2.14.1+cpu, hpo 0.0.9 instead"
        " of 0.1.0",
        "10.0.0.2 (8 CPUs) does not answer: no answer within 90 s",
        "10.0.0.2 (8 CPUs) has torch missing instead of 2.14.1+cpu",
    ]


@dataclass(frozen=True)
class Home:
    """A home folder, as of a machine of its own, and `hpo` run with it."""

    folder: Path

    def hpo(self, *arguments: str, code: int = 0, **environment: str) -> tuple[str, str]:
        inherited = {key: value for key, value in os.environ.items() if not key.startswith(("HPO_", "RAY_"))}
        # Ray's folder is short, for its sockets' sake, and nobody else's: it holds the address that `auto` means.
        own = {"HOME": str(self.folder), "RAY_TMPDIR": str(self.folder.parent)}
        done = subprocess.run(
            [str(HPO), *arguments], env=inherited | own | environment, capture_output=True, text=True, timeout=150
        )
        assert done.returncode == code, f"{arguments} ended with {done.returncode}:\n{done.stdout}\n{done.stderr}"
        assert "Traceback" not in done.stderr
        return done.stdout, done.stderr


@dataclass(frozen=True)
class Cluster:
    """A head and a node that joined it, on one machine's loopback."""

    folder: Path
    address: str
    line: str
    """What the head said to paste."""

    @property
    def head(self) -> Home:
        return self.home("head")

    @property
    def token(self) -> str:
        return self.line.split()[0].removeprefix("RAY_AUTH_TOKEN=")

    def home(self, name: str) -> Home:
        (self.folder / name).mkdir(exist_ok=True)
        return Home(self.folder / name)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    folder = Path(tempfile.mkdtemp(prefix="c"))
    made = Cluster(folder, f"127.0.0.1:{free_port()}", "")
    port = made.address.partition(":")[2]
    try:
        out, err = made.head.hpo(
            *("cluster", "head", "--node-ip", "127.0.0.1", "--port", port),
            *("--cpus", "1", "--gpus", "1", "--vram-gb", "12"),
        )
        assert "warning" not in err
        line, run = out.splitlines()
        assert run == f"hpo run ... --address {made.address}"
        made = Cluster(folder, made.address, line)
        token, name, *words = line.split()
        assert (token, name) == (f"RAY_AUTH_TOKEN={made.token}", "hpo")
        # Of the machine's loopback addresses, another one than the head's.
        more = ("--node-ip", "127.0.0.2", "--cpus", "1", "--gpus", "1", "--vram-gb", "8")
        _, err = made.home("node").hpo(*words, *more, RAY_AUTH_TOKEN=made.token)
        assert "kept the token" in err
        yield made
    finally:
        made.head.hpo("cluster", "stop", "--address", made.address)
        shutil.rmtree(folder, ignore_errors=True)


def test_both_nodes_are_seen_with_their_cards_and_memory(cluster: Cluster) -> None:
    seen = json.loads(cluster.head.hpo("cluster", "status", "--address", cluster.address, "--json")[0])

    assert seen["address"] == cluster.address
    assert [(one["address"], one["alive"], one["gpu"], one["vram_gb"]) for one in seen["nodes"]] == [
        ("127.0.0.1", True, "logical", 12.0),
        ("127.0.0.2", True, "logical", 8.0),
    ]
    assert all(
        (one["cpus"], one["gpus"], one["cpus_in_use"], one["gpus_in_use"]) == (1, 1, 0, 0) for one in seen["nodes"]
    )


def test_the_token_is_kept_on_both_machines_for_their_owners_alone(cluster: Cluster) -> None:
    for name in ("head", "node"):
        file = cluster.folder / name / ".ray" / "auth_token"
        assert file.read_text("utf-8") == cluster.token
        assert file.stat().st_mode & 0o777 == 0o600


def test_a_head_on_loopback_listens_nowhere_else(cluster: Cluster) -> None:
    on_loopback = processes.running()[Place(cluster.address, "127.0.0.1")]

    listening = [
        socket.laddr.ip
        for process in on_loopback
        for socket in process.net_connections("tcp")
        if socket.status == psutil.CONN_LISTEN
    ]

    assert len(listening) >= 3
    assert {address.removeprefix("::ffff:") for address in listening} == {"127.0.0.1"}


@pytest.mark.parametrize(
    ("command", "environment", "reason"),
    [
        ("join {address} --node-ip 127.0.0.3", {}, "wants a token, and there is none here"),
        ("join {address} --node-ip 127.0.0.3", {"RAY_AUTH_TOKEN": "f" * 64}, "refuses this machine's token"),
        ("join {address} --node-ip 127.0.0.2", {}, "is a node of the cluster at"),
        ("join {address} --node-ip 192.0.2.77", {}, "is no address of this machine"),
        ("join 127.0.0.1:{free}", {}, "no Ray cluster answers at"),
        ("join 127.0.0.1", {}, "HOST:PORT is needed"),
        ("status --address {address}", {}, "wants a token, and there is none here"),
        ("head --node-ip 127.0.0.1 --port {port}", {}, "is taken"),
    ],
)
def test_a_refusal_is_one_line_with_the_fix(
    cluster: Cluster, command: str, environment: dict[str, str], reason: str
) -> None:
    port, free = cluster.address.partition(":")[2], free_port()
    stranger = cluster.home("stranger")

    arguments = command.format(address=cluster.address, port=port, free=free).split()
    out, err = stranger.hpo("cluster", *arguments, code=2, **environment)

    error = [line for line in err.splitlines() if not line.startswith("starting")]
    assert out == ""
    assert len(error) == 1
    assert error[0].startswith("error: ")
    assert reason in error[0]
    assert not (stranger.folder / ".ray").exists()


@pytest.mark.slow
def test_the_doctor_looks_at_every_node(cluster: Cluster) -> None:
    out, _ = cluster.head.hpo(
        *("doctor", "--address", cluster.address, "--studies-dir", str(cluster.folder / "studies"), "--json"),
        *("--checkpoints", str(cluster.folder / "checkpoints")),
    )

    checks = json.loads(out)["checks"]
    found = {(check["name"], check["where"]): check["verdict"] for check in checks}
    for where in ("127.0.0.1 (logical, 12 GB)", "127.0.0.2 (logical, 8 GB)"):
        assert {found[name, where] for name in ("versions", "checkpoints", "clock")} == {"pass"}
        assert found["GPU", where] == "warn"
    assert found["same versions", cluster.address] == "pass"
    assert list((cluster.folder / "checkpoints").iterdir()) == []


@pytest.mark.slow
def test_stop_ends_the_named_cluster_alone_and_leaves_nothing_behind(cluster: Cluster) -> None:
    other = f"127.0.0.2:{free_port()}"
    _, err = cluster.head.hpo(
        *("cluster", "head", "--node-ip", "127.0.0.2", "--port", other.partition(":")[2], "--gpus", "0", "--cpus", "1")
    )
    assert "warning: Ray 2.60 listens on every address" in err
    _, err = cluster.head.hpo("cluster", "status", code=2)
    assert "several clusters run on this machine" in err

    out, _ = cluster.head.hpo("cluster", "stop", "--address", other)

    assert f"stopped this machine's part of the cluster at {other}" in out
    assert {place.cluster for place in processes.running()} & {other, cluster.address} == {cluster.address}
    out, _ = cluster.head.hpo("cluster", "stop", "--address", other)
    assert "nothing to stop" in out
    out, _ = cluster.head.hpo("cluster", "stop", "--address", cluster.address)
    assert cluster.address in out
    assert not [place for place in processes.running() if place.cluster == cluster.address]
    assert not [
        process
        for process in psutil.process_iter(["cmdline"])
        if str(cluster.folder) in " ".join(process.info["cmdline"] or ())
    ]
