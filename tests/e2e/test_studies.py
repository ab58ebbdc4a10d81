"""Whole studies through the real command line: real Ray, real SQLite, real images."""

import itertools
import json
import signal
import subprocess
import tomllib
from pathlib import Path
from typing import Any

import pandas as pd
import psutil
import pytest
import torch
import yaml
from PIL import Image
from safetensors.torch import load_file
from torch import nn

from tests.browser import chromium, programs
from tests.e2e.shell import Shell, wait_for_checkpoint
from tests.report_browser import SIZES, requests, sorted_by, troubles, undrawn
from tests.tiny_backbone import tiny


@pytest.fixture(scope="module")
def shell(tmp_path_factory: pytest.TempPathFactory) -> Shell:
    return Shell(tmp_path_factory.mktemp("studies"))


@pytest.fixture(scope="module")
def summary(shell: Shell) -> dict[str, Any]:
    """A finished study of 20 trials, as `--json` prints it."""
    out, err = shell.hpo(*shell.asked("--grace-period", "2", "--seed", "0", "--json", trials=20))
    assert "Traceback" not in err
    assert "trial 0 starts" in err
    result: dict[str, Any] = json.loads(out)
    return result


def test_a_study_ends_with_a_held_out_test_accuracy(shell: Shell, summary: dict[str, Any]) -> None:
    trials = shell.trials()

    assert summary["study"] == "tiny"
    assert {trial.state.name for trial in trials} == {"COMPLETE", "PRUNED"}
    assert len(trials) == 20 == summary["trials"]["complete"] + summary["trials"]["pruned"]
    for trial in trials:
        reached, asked = len(trial.intermediate_values), trial.params["epochs"]
        assert 1 <= reached <= asked
        assert (reached == asked) == (trial.state.name == "COMPLETE")
        assert trial.user_attrs["host"]
        assert trial.user_attrs["device"].startswith("cpu")
        assert [row["epoch"] for row in trial.user_attrs["curve"]] == list(trial.intermediate_values)
    low, high = summary["final"]["test_accuracy_ci95"]
    assert low < summary["final"]["test_accuracy"] < high
    assert summary["final"]["test_accuracy"] > 0.8


def test_a_study_leaves_the_files_that_the_readme_names(shell: Shell, summary: dict[str, Any]) -> None:
    folder = shell.folder / "studies" / "tiny"

    assert len(pd.read_csv(folder / "trials.csv")) == 20
    assert len(pd.read_csv(folder / "splits.csv")) == 1437
    assert len(pd.read_csv(folder / "final" / "test_predictions.csv")) == 360
    metrics = json.loads((folder / "final" / "metrics.json").read_text(encoding="utf-8"))
    assert metrics["test_looks"] == 1
    assert metrics["classification_report"]["7"]["support"] > 30
    assert tomllib.loads((folder / "final" / "config.toml").read_text(encoding="utf-8"))["config"]["batch_size"]
    for picture in (folder / "report" / "search.png", folder / "final" / "confusion_matrix.png"):
        with Image.open(picture) as image:
            assert image.width > 500
    assert not list((folder / "checkpoints").iterdir())
    assert not (folder / ".ray").exists()


def test_the_model_loads_without_the_projects_training_code(shell: Shell, summary: dict[str, Any]) -> None:
    head = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10))
    model = nn.Sequential()
    model.add_module("backbone", tiny())
    model.add_module("head", head)

    model.load_state_dict(load_file(summary["final"]["model"]), strict=True)

    assert model.eval()(torch.zeros(1, 3, 16, 16)).shape == (1, 10)


def test_the_same_command_again_changes_nothing(shell: Shell, summary: dict[str, Any]) -> None:
    before = [(trial.number, trial.state, trial.intermediate_values) for trial in shell.trials()]

    out, err = shell.hpo(*shell.asked("--grace-period", "2", "--seed", "0", "--json", trials=20))

    assert "study tiny is complete" in err
    assert json.loads(out)["final"] == summary["final"]
    assert [(trial.number, trial.state, trial.intermediate_values) for trial in shell.trials()] == before


def test_another_specification_is_refused(shell: Shell, summary: dict[str, Any]) -> None:
    _, err = shell.hpo(*shell.asked("--seed", "1", "--head", "linear", trials=20), code=2)

    assert "head: the study has projection, this run asks for linear" in err


def test_status_shows_all_studies_and_one(shell: Shell, summary: dict[str, Any]) -> None:
    everything, _ = shell.hpo("status")
    one, _ = shell.hpo("status", "tiny")
    as_json, _ = shell.hpo("status", "tiny", "--json")

    assert "20/20" in everything
    assert f"{summary['best']['val_accuracy']:.4f}" in one
    assert "held-out test accuracy" in one
    assert json.loads(as_json)["best"] == summary["best"]


def test_the_best_are_exported(shell: Shell, summary: dict[str, Any]) -> None:
    best = summary["best"]

    document = yaml.safe_load(shell.hpo("export", "tiny", "--format", "yaml", "--top", "3")[0])
    shell.hpo("export", "tiny", "--format", "csv", "--output", "best.csv")

    assert document["best"][0] == best
    assert len(document["best"]) == 3
    (row,) = pd.read_csv(shell.folder / "best.csv").to_dict("records")
    assert row["number"] == best["number"]
    assert row["learning_rate"] == best["params"]["learning_rate"]


@pytest.mark.slow
def test_the_best_is_run_again_from_its_export(shell: Shell, summary: dict[str, Any]) -> None:
    shell.hpo("export", "tiny", "--format", "toml", "--output", "best.toml")
    out, _ = shell.hpo(
        *("run", "--backbone", "tests.tiny_backbone:tiny", "--dataset", "digits", "--image-size", "16"),
        *("--space", "best.toml", "--trials", "1", "--study", "again", "--no-retrain", "--json"),
    )
    assert json.loads(out)["best"]["params"] == summary["best"]["params"]
    assert json.loads(out)["final"] is None


@pytest.mark.slow
def test_a_retrain_over_seeds_and_candidates_is_counted(shell: Shell, summary: dict[str, Any]) -> None:
    out, _ = shell.hpo("retrain", "tiny", "--seeds", "2", "--top", "2", "--on", "train", "--json")

    final = json.loads(out)["final"]
    assert final["test_looks"] == 3
    assert len(final["seeds"]["test_accuracies"]) == 2
    assert final["seeds"]["stdev"] >= 0


def test_the_study_is_reported_with_images_of_what_it_confuses(
    shell: Shell, summary: dict[str, Any], tmp_path: Path
) -> None:
    out, _ = shell.hpo("report", "tiny")

    page = shell.folder / out.strip()
    text = page.read_text(encoding="utf-8")
    assert page == shell.folder / "studies" / "tiny" / "report" / "report.html"
    assert f"{summary['final']['test_accuracy']:.4f}" in text
    assert "data:image/jpeg;base64," in text
    assert len(pd.read_csv(page.parent / "tables" / "trials.csv")) == 20
    # Every epoch of this study has its time: the chart shows epochs, not the whole of a trial.
    assert "Not all of its epochs have times" not in text
    if programs() is not None:
        with chromium(tmp_path) as driver:
            for width, scheme in itertools.product(SIZES, ("light", "dark")):
                assert troubles(driver, page, width, scheme) == []
            assert undrawn(driver) == []
            rising, falling = sorted_by(driver, "trials", 3)
            assert rising == sorted(falling)
            assert requests(driver, page) == {"file", "data"}


def test_a_report_of_a_study_that_is_not_there_is_refused(shell: Shell, summary: dict[str, Any]) -> None:
    _, err = shell.hpo("report", "tiny", "tinny", code=2)

    assert "there is no study tinny" in err


def assert_loopback_only(process: subprocess.Popen[str]) -> None:
    driver = psutil.Process(process.pid)
    listening = [
        connection.laddr.ip
        for one in (driver, *driver.children(recursive=True))
        for connection in one.net_connections("inet")
        if connection.status == psutil.CONN_LISTEN
    ]
    assert listening
    assert {address.removeprefix("::ffff:") for address in listening} == {"127.0.0.1"}


def interrupted(shell: Shell, number: signal.Signals) -> str:
    """Start a study of 6 trials, send it a signal after its first epoch, and return what it printed on stderr."""
    process = shell.start(*shell.asked("--no-asha", trials=6))
    wait_for_checkpoint(shell.folder / "studies" / "tiny", process)
    assert_loopback_only(process)
    process.send_signal(number)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    return err


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_an_interrupted_study_says_how_to_go_on_and_does(tmp_path: Path, number: signal.Signals) -> None:
    shell = Shell(tmp_path)

    err = interrupted(shell, number)

    assert err.strip().splitlines()[-1] == "stopped; continue with: hpo resume tiny"
    before = {trial.number: trial.intermediate_values for trial in shell.trials()}

    out, _ = shell.hpo("resume", "tiny", "--trials", "7", "--json")

    assert json.loads(out)["trials"] == {"complete": 7, "pruned": 0, "fail": 0, "running": 0}
    for trial in shell.trials():
        assert list(trial.intermediate_values) == list(range(1, trial.params["epochs"] + 1))
        assert before.get(trial.number, {}).items() <= trial.intermediate_values.items()


@pytest.mark.slow
def test_several_studies_are_interrupted_and_gone_on_with_like_one(tmp_path: Path) -> None:
    shell = Shell(tmp_path)
    command = shell.asked("--no-asha", "--no-retrain", "--concurrency", "1", trials=2)
    process = shell.start(*command, "--backbone", "tests.tiny_backbone:tinier")
    names = [f"tiny-tests.tiny_backbone:{name}" for name in ("tiny", "tinier")]
    wait_for_checkpoint(tmp_path / "studies" / names[1], process)
    assert_loopback_only(process)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    assert err.strip().splitlines()[-1] == f"stopped; continue with: hpo resume {' '.join(names)}"
    before = {(name, trial.number): trial.intermediate_values for name in names for trial in shell.trials(name)}

    out, _ = shell.hpo("resume", *names)

    for name in names:
        assert f"study {name}: 2 COMPLETE" in out
        for trial in shell.trials(name):
            assert trial.state.name == "COMPLETE"
            assert list(trial.intermediate_values) == list(range(1, trial.params["epochs"] + 1))
            assert before.get((name, trial.number), {}).items() <= trial.intermediate_values.items()
    assert out.splitlines()[-3].split() == [
        "study",
        "backbone",
        "trials",
        "best",
        "validation",
        "test",
        "95",
        "%",
        "interval",
    ]
    summaries = json.loads(shell.hpo("resume", *names, "--json")[0])["studies"]
    assert [summary["study"] for summary in summaries] == names


def test_the_cache_is_listed_and_cleared(shell: Shell, summary: dict[str, Any]) -> None:
    arrays = json.loads(shell.hpo("cache", "--json")[0])["arrays"]
    listed, _ = shell.hpo("cache")
    removed, _ = shell.hpo("cache", "--clear")

    kinds = [array["kind"] for array in arrays]
    # Training and test images; the training images' features at each freeze mode that was drawn.
    assert kinds.count("images") == 2
    assert 1 <= kinds.count("features") <= 2
    assert f"{len(arrays)} arrays" in listed
    assert f"removed {len(arrays)} arrays" in removed
    assert json.loads(shell.hpo("cache", "--json")[0]) == {"arrays": []}


def test_deleting_asks_or_needs_yes(shell: Shell, summary: dict[str, Any]) -> None:
    folder = shell.folder / "studies" / "tiny"
    _, err = shell.hpo("delete", "tiny", code=2)
    assert "say --yes" in err
    assert folder.exists()

    shell.hpo("delete", "tiny", "--yes")

    assert not folder.exists()
    left = json.loads(shell.hpo("status", "--json")[0])["studies"]
    assert "tiny" not in {one["study"] for one in left}
