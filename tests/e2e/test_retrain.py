"""The retrain through the real command line: killed, spoiled, and left alone where nothing has changed."""

import json
import signal
from pathlib import Path
from typing import Any

import pytest

from hpo.ledger.studies import open_study
from tests.e2e.shell import Shell, wait_for_checkpoint

SPACE = """
[parameters]
learning_rate = {{ low = 1e-6, high = 1e-2, log = true }}
batch_size = 64
epochs = {epochs}
freeze_mode = "none"

[[enqueue]]
learning_rate = 3e-3

[[enqueue]]
learning_rate = 1e-6
"""
SPOILED = "tests.failing_backbones:spoiled"


def shell(folder: Path, epochs: int) -> Shell:
    return Shell(folder, SPACE.format(epochs=epochs))


def metrics(of: Shell) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((of.folder / "studies" / "tiny" / "final" / "metrics.json").read_text("utf-8"))
    return found


@pytest.mark.slow
def test_a_retrain_that_is_killed_continues_and_looks_once(tmp_path: Path) -> None:
    killed = shell(tmp_path, epochs=60)
    killed.hpo(*killed.asked("--no-retrain", trials=1))
    process = killed.start("retrain", "tiny")
    wait_for_checkpoint(tmp_path / "studies" / "tiny" / "checkpoints", process)
    process.send_signal(signal.SIGKILL)
    process.communicate(timeout=60)
    assert open_study(killed.url, "tiny").test_looks == 0

    _, err = killed.hpo("retrain", "tiny")

    assert "retrain at epoch 60/60, training loss" in err
    assert open_study(killed.url, "tiny").test_looks == 1
    assert metrics(killed)["test_accuracy"] > 0.9
    assert not list((tmp_path / "studies" / "tiny" / "checkpoints").rglob("*.ckpt"))


@pytest.mark.slow
def test_more_trials_that_change_nothing_look_at_nothing(tmp_path: Path) -> None:
    topped = shell(tmp_path, epochs=6)
    out, _ = topped.hpo(*topped.asked("--no-asha", "--json", trials=1))
    first = json.loads(out)["final"]

    out, err = topped.hpo("resume", "tiny", "--trials", "2", "--json")

    assert json.loads(out)["final"] == first
    assert "retraining" not in err
    assert first["test_looks"] == 1
    validation = first["validation"]
    assert validation["tied_trials"] == []
    assert validation["above_test"] == pytest.approx(validation["accuracy"] - first["test_accuracy"])


@pytest.mark.slow
def test_a_model_that_is_spoiled_is_trained_once_more_and_never_left(tmp_path: Path) -> None:
    spoiled = shell(tmp_path, epochs=6)
    spoiled.hpo(*spoiled.asked("--no-retrain", trials=1, backbone=SPOILED))
    final = tmp_path / "studies" / "tiny" / "final"

    for number in range(2):
        (tmp_path / "data" / f"spoil-{number}").touch()
    _, twice = spoiled.hpo("retrain", "tiny", code=1)
    assert "the retrain of study tiny failed: the retrain's loss is not finite, twice; no model was written" in twice
    assert "Traceback" not in twice
    assert not final.exists()
    assert open_study(spoiled.url, "tiny").test_looks == 0

    (tmp_path / "data" / "spoil-0").touch()
    _, once = spoiled.hpo("retrain", "tiny")
    assert "the retrain's loss is not finite; it is trained once more with another seed" in once
    assert metrics(spoiled)["training_accuracy"] > 0.8
    assert metrics(spoiled)["test_looks"] == 1
