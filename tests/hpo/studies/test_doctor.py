"""`hpo doctor`: each check by itself, on good and on bad ground, and the command's exit codes."""

import json
import os
import shutil
import socket
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from hpo.ledger import storage
from hpo.machines import nodes
from hpo.machines.gpus import Card
from hpo.machines.nodes import NodeError, NodeFacts
from hpo.studies import doctor
from hpo.studies.doctor import Check, worst

HPO = Path(sys.executable).with_name("hpo")
CARD = Card(0, "NVIDIA GeForce RTX 3060", 12.0, "535.183.01", "GPU-1")


def facts(gpu: str | None = None) -> NodeFacts:
    return NodeFacts(
        node_id="n",
        address="10.0.0.2",
        hostname="h",
        cpus=8,
        gpus=1,
        vram_gb=12,
        gpu=gpu,
        versions={"torch": "2.14.1+cpu"},
    )


def test_the_worst_verdict_counts() -> None:
    passes, warns, fails = (Check("x", "here", verdict, "") for verdict in ("pass", "warn", "fail"))

    assert worst([]) == "pass"
    assert worst([passes, warns, passes]) == "warn"
    assert worst([fails, warns, passes]) == "fail"


def test_the_packages_here_are_as_asked_for() -> None:
    check = doctor.versions()

    assert check.verdict == "pass"
    assert "ray 2." in check.words


def test_packages_that_are_too_old_or_missing_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = ["torch>=99.0", "no-such-package>=1.0", "optuna>=1.0", 'psycopg>=99; extra == "postgres"']
    monkeypatch.setattr("importlib.metadata.requires", lambda name: asked)

    check = doctor.versions()

    assert check.verdict == "fail"
    assert "torch>=99.0 (here: " in check.words
    assert "no-such-package>=1.0 (here: missing)" in check.words
    assert "optuna" not in check.words
    assert "psycopg" not in check.words


@pytest.mark.parametrize(
    ("cards", "gpu", "verdict", "words"),
    [
        ((), None, "warn", "none"),
        ((CARD,), None, "fail", "torch 2.14.1+cpu cannot use it"),
        ((CARD,), CARD.name, "pass", "NVIDIA GeForce RTX 3060, 12.0 GB, driver 535.183.01"),
    ],
)
def test_a_card_must_be_one_that_torch_can_use(
    monkeypatch: pytest.MonkeyPatch, cards: tuple[Card, ...], gpu: str | None, verdict: str, words: str
) -> None:
    monkeypatch.setattr(doctor, "cards", lambda: cards)

    check = doctor.gpus(facts(gpu))

    assert check.verdict == verdict
    assert words in check.words


@pytest.mark.parametrize(("free_gb", "verdict"), [(50, "pass"), (9, "warn"), (0.5, "fail")])
def test_little_room_warns_and_too_little_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, free_gb: float, verdict: str
) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=free_gb * 2**30))

    check = doctor.disk("studies", tmp_path / "not" / "there" / "yet")

    assert check.verdict == verdict
    assert f"{free_gb:.1f} GB free" in check.words
    assert list(tmp_path.iterdir()) == []


def test_what_lies_in_the_data_folder_is_listed(tmp_path: Path) -> None:
    assert doctor.data(tmp_path).verdict == doctor.weights(tmp_path).verdict == "warn"

    (tmp_path / "cifar-10-batches-py").mkdir()
    (tmp_path / "cifar-10-batches-py" / "batches.meta").touch()
    (tmp_path / "weights").mkdir()
    (tmp_path / "weights" / "resnet18-f37072fd.pth").touch()

    assert doctor.data(tmp_path).words.startswith("cifar10 in ")
    assert doctor.weights(tmp_path).words.startswith("1 files in ")


def test_a_database_that_is_not_there_yet_is_not_made(tmp_path: Path) -> None:
    studies = tmp_path / "studies"

    assert doctor.database(f"sqlite:///{studies / 'optuna.db'}", studies).verdict == "pass"
    assert doctor.database(f"sqlite:///{tmp_path / 'elsewhere' / 'optuna.db'}", studies).verdict == "fail"
    assert list(tmp_path.iterdir()) == []


def test_a_database_that_can_be_written_to_passes(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'optuna.db'}"
    storage.connect(url)
    before = (tmp_path / "optuna.db").read_bytes()

    check = doctor.database(url, tmp_path)

    assert (check.verdict, "holds studies" in check.words) == ("pass", True)
    assert (tmp_path / "optuna.db").read_bytes() == before


def test_a_database_that_cannot_be_written_to_fails(tmp_path: Path) -> None:
    sqlite3.connect(tmp_path / "optuna.db").execute("CREATE TABLE x (y)").connection.close()

    check = doctor.database(f"sqlite:///file:{tmp_path / 'optuna.db'}?mode=ro&uri=true", tmp_path)

    assert check.verdict == "fail"
    assert "readonly" in check.words


@pytest.mark.parametrize("url", ["nonsense", "postgresql+psycopg://me:secret@127.0.0.1:1/none"])
def test_a_database_that_cannot_be_opened_fails_without_showing_its_password(tmp_path: Path, url: str) -> None:
    check = doctor.database(url, tmp_path)

    assert check.verdict == "fail"
    assert "secret" not in check.words


def test_a_place_for_checkpoints_is_tried_and_left_as_it_was(tmp_path: Path) -> None:
    assert doctor.place(str(tmp_path)).verdict == "pass"
    assert doctor.place("memory://checkpoints").verdict == "pass"
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("uri", ["/dev/null/checkpoints", "nosuch://bucket/checkpoints"])
def test_a_place_that_cannot_be_used_fails_in_one_line(uri: str) -> None:
    check = doctor.place(uri)

    assert check.verdict == "fail"
    assert "\n" not in check.words


@pytest.fixture
def _taken_port(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        monkeypatch.setattr(doctor, "_PORT", server.getsockname()[1])
        yield


@pytest.mark.usefixtures("_taken_port")
def test_a_port_that_another_program_has_is_reported() -> None:
    assert doctor.port().verdict == "warn"


def test_a_free_port_passes(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        monkeypatch.setattr(doctor, "_PORT", server.getsockname()[1])

    assert doctor.port().verdict == "pass"


def test_a_token_that_others_can_read_is_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "token"
    monkeypatch.delenv("RAY_AUTH_TOKEN", raising=False)
    monkeypatch.setenv("RAY_AUTH_TOKEN_PATH", str(path))
    assert doctor.token().verdict == "pass"

    path.write_text("a" * 64, encoding="utf-8")
    path.chmod(0o644)

    assert doctor.token().verdict == "warn"
    assert doctor.token().fix == f"chmod 600 {path}"
    path.chmod(0o600)
    assert doctor.token().verdict == "pass"


@pytest.mark.parametrize(
    ("ahead", "trip", "verdict"), [(0.1, 0.01, "pass"), (-2.5, 1.0, "pass"), (3.0, 0.1, "warn"), (-60.0, 0.1, "fail")]
)
def test_clocks_that_differ_by_more_than_the_round_trip_are_reported(
    monkeypatch: pytest.MonkeyPatch, ahead: float, trip: float, verdict: str
) -> None:
    monkeypatch.setattr(nodes, "clock_offset", lambda node_id: (ahead, trip))

    assert doctor.clock("n", "10.0.0.2").verdict == verdict


def test_a_node_that_does_not_answer_fails_and_hides_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    other = NodeFacts(node_id="m", address="10.0.0.3", hostname="h", cpus=8, gpus=0, vram_gb=None)
    monkeypatch.setattr(nodes, "facts", lambda: [facts(), other])
    monkeypatch.setattr(nodes, "mismatches", lambda known: ["10.0.0.3 (8 CPUs) has torch 2.13.0 instead of 2.14.1"])
    monkeypatch.setattr(
        nodes,
        "each_node",
        lambda function, *arguments: {
            "n": NodeError("No module named 'hpo'"),
            "m": [Check("GPU", "here", "warn", "none")],
        },
    )
    monkeypatch.setattr(nodes, "clock_offset", lambda node_id: (0.0, 0.01))

    found = {(check.name, check.where): check for check in doctor._on_cluster("10.0.0.1:6379", None, None)}

    assert found["node", "10.0.0.2 (8 CPUs)"].words == "No module named 'hpo'"
    assert found["node", "10.0.0.2 (8 CPUs)"].verdict == "fail"
    assert found["GPU", "10.0.0.3 (8 CPUs)"].verdict == "warn"
    assert found["same versions", "10.0.0.1:6379"].verdict == "fail"


def run(folder: Path, *arguments: str, code: int) -> tuple[str, str]:
    environment = {**os.environ, "HOME": str(folder), "HPO_DATA_DIR": str(folder / "data")}
    done = subprocess.run(
        [str(HPO), "doctor", *arguments], cwd=folder, env=environment, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == code, done.stdout + done.stderr
    return done.stdout, done.stderr


def test_a_healthy_machine_passes_and_nothing_is_made(tmp_path: Path) -> None:
    out, _ = run(tmp_path, "--checkpoints", str(tmp_path), "--json", code=0)

    document = json.loads(out)
    assert document["verdict"] == "warn"
    assert {check["name"] for check in document["checks"]} == {
        *(
            "versions",
            "GPU",
            "Ray",
            "data folder",
            "data",
            "weights",
            "checkpoints",
            "database",
            "studies",
            "port",
            "token",
        ),
    }
    assert {check["where"] for check in document["checks"]} == {"here"}
    assert list(tmp_path.iterdir()) == []


def test_what_would_stop_a_study_fails_with_its_fix(tmp_path: Path) -> None:
    (tmp_path / "studies").mkdir()
    (tmp_path / "studies" / "optuna.db").write_text("no database " * 100, encoding="utf-8")

    out, err = run(tmp_path, "--address", "127.0.0.1:1", code=1)

    lines = [line for line in out.splitlines() if line.startswith("fail")]
    assert err == ""
    assert [line.split()[1] for line in lines] == ["database", "cluster"]
    assert "not a database" in lines[0]
    assert "no Ray cluster answers at 127.0.0.1:1" in lines[1]
