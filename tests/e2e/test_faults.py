"""What goes wrong while a study runs, and what it says and does about it."""

import json
import signal
import subprocess
from pathlib import Path

import pytest

from tests.e2e.shell import Shell, wait_for_checkpoint
from tests.failing_backbones import ROOM

FLAKY = "tests.failing_backbones:flaky"
SHORT = """
[parameters]
learning_rate = 1e-3
batch_size = 32
epochs = 3
freeze_mode = "none"
"""


@pytest.mark.slow
def test_a_study_whose_first_trials_all_fail_alike_stops_and_the_one_beside_it_ends(tmp_path: Path) -> None:
    shell = Shell(tmp_path, SHORT)
    broken, sound = "tiny-tests.failing_backbones:broken", "tiny-tests.tiny_backbone:tiny"

    out, err = shell.hpo(
        *shell.asked("--max-failures", "0", "--concurrency", "1", "--no-asha", "--no-retrain", trials=4),
        *("--backbone", "tests.failing_backbones:broken"),
        code=1,
    )

    (error,) = (line for line in err.splitlines() if line.startswith("error: "))
    assert "the first 3 trials all failed with ArithmeticError: this backbone never learns" in error
    assert error.endswith(f"continue with: hpo resume {broken}")
    assert "Traceback" not in err
    assert [trial.state.name for trial in shell.trials(broken)] == ["FAIL"] * 3
    assert shell.trials(broken)[0].user_attrs["error"] == "ArithmeticError: this backbone never learns"
    assert f"study {sound}: 4 COMPLETE" in out
    assert broken not in out


@pytest.fixture(scope="module")
def faulty(tmp_path_factory: pytest.TempPathFactory) -> tuple[Shell, str]:
    """Three studies of two trials each, whose backbones go wrong in three ways, run in one go; and its stderr."""
    shell = Shell(tmp_path_factory.mktemp("faulty"), SHORT)
    backbones = (
        word for kind in ("diverging", "crowded") for word in ("--backbone", f"tests.failing_backbones:{kind}")
    )
    command = shell.asked("--no-asha", "--no-retrain", "--concurrency", "1", trials=2, backbone=FLAKY)
    _, err = shell.hpo(*command, *backbones)
    return shell, err


def test_a_trial_that_raises_is_tried_again_from_its_checkpoint(faulty: tuple[Shell, str]) -> None:
    shell, _ = faulty

    assert (shell.folder / "data" / "flaked").exists()
    for trial in shell.trials(f"tiny-{FLAKY}"):
        assert trial.state.name == "COMPLETE"
        assert list(trial.intermediate_values) == [1, 2, 3]


def test_a_trial_that_diverges_is_pruned_with_the_reason(faulty: tuple[Shell, str]) -> None:
    shell, err = faulty
    name = "tiny-tests.failing_backbones:diverging"

    for trial in shell.trials(name):
        epoch = len(trial.intermediate_values)
        assert trial.state.name == "PRUNED"
        assert trial.user_attrs["error"] == f"diverged: the loss is not finite after epoch {epoch}"
        assert f"{name}: trial {trial.number} PRUNED: diverged" in err


def test_a_batch_that_does_not_fit_is_split_and_the_size_remembered(faulty: tuple[Shell, str]) -> None:
    shell, _ = faulty
    name = "tiny-tests.failing_backbones:crowded"

    first, second = shell.trials(name)

    assert first.user_attrs["micro_batch"] == second.user_attrs["micro_batch"] == ROOM
    assert first.state.name == second.state.name == "COMPLETE"


@pytest.mark.slow
def test_a_batch_that_does_not_fit_is_split_in_the_retrain(faulty: tuple[Shell, str]) -> None:
    shell, _ = faulty

    out, _ = shell.hpo("retrain", "tiny-tests.failing_backbones:crowded")

    assert "held-out test accuracy" in out


@pytest.mark.slow
def test_a_disk_that_goes_away_counts_against_no_trial(tmp_path: Path) -> None:
    shell = Shell(tmp_path, SHORT)
    mark = tmp_path / "data" / "unplugged"
    asked = shell.asked(
        *("--no-asha", "--no-retrain", "--concurrency", "1", "--max-failures", "0"),
        trials=2,
        backbone="tests.failing_backbones:unplugged",
    )

    _, late = shell.hpo(*asked, "--timeout", "1s")
    mark.touch()
    _, stopped = shell.hpo("resume", "tiny", "--timeout", "1h", code=1)
    states = [(trial.state.name, len(trial.intermediate_values)) for trial in shell.trials()]
    mark.unlink()
    out, _ = shell.hpo("resume", "tiny")

    assert "time is up (--timeout, 1 s); continue with: hpo resume tiny" in late
    assert stopped.splitlines()[-1] == (f"error: {mark}: Input/output error; fix that; continue with: hpo resume tiny")
    # The epoch after which time was up comes from the checkpoint.
    assert states == [("RUNNING", 1)]
    assert "study tiny: 2 COMPLETE" in out


def interrupted_after_a_checkpoint(shell: Shell) -> list[Path]:
    process = shell.start(*shell.asked("--no-asha", "--no-retrain", "--concurrency", "1", trials=2))
    folder = shell.folder / "studies" / "tiny" / "checkpoints"
    wait_for_checkpoint(folder, process)
    process.send_signal(signal.SIGTERM)
    assert process.wait(60) == 130
    return list(folder.glob("*.ckpt"))


@pytest.mark.parametrize(
    ("harm", "reason"),
    [
        pytest.param(
            lambda path: path.write_bytes(path.read_bytes()[:5000]),
            "the checkpoint cannot be read",
            marks=pytest.mark.slow,
        ),
        pytest.param(lambda path: path.unlink(), "its checkpoint is missing", marks=pytest.mark.slow),
    ],
    ids=["torn", "missing"],
)
def test_a_checkpoint_that_is_no_good_costs_its_trial_a_restart(harm: object, reason: str, tmp_path: Path) -> None:
    assert callable(harm)
    shell = Shell(tmp_path)
    for path in interrupted_after_a_checkpoint(shell):
        harm(path)
    # Epochs in the ledger distinguish a restart from a start.
    begun = {trial.number for trial in shell.trials() if trial.intermediate_values and trial.state.name == "RUNNING"}

    _, err = shell.hpo("resume", "tiny")

    assert [trial.state.name for trial in shell.trials()] == ["COMPLETE", "COMPLETE"]
    if begun or "torn" in str(tmp_path):
        assert f"starts again from epoch 0: {reason}" in err


def enlarge(disk: Path, size: str) -> None:
    subprocess.run(["mount", "-o", f"remount,size={size}", str(disk)], check=True)


@pytest.mark.slow
def test_a_full_disk_of_studies_stops_the_study_which_goes_on_once_there_is_room(
    tmp_path: Path, small_disk: Path
) -> None:
    enlarge(small_disk, "1m")
    shell = Shell(tmp_path, SHORT.replace("epochs = 3", "epochs = 60"))
    places = ("--studies-dir", str(small_disk), "--checkpoints", str(tmp_path / "checkpoints"))
    process = shell.start(*shell.asked("--no-retrain", "--no-asha", *places, trials=2))
    wait_for_checkpoint(tmp_path / "checkpoints", process)
    filler = small_disk / "filler"
    full = subprocess.run(["dd", "if=/dev/zero", f"of={filler}", "bs=4k"], capture_output=True, check=False)
    assert b"No space" in full.stderr

    _, err = process.communicate(timeout=100)

    assert process.returncode == 1, err
    assert "the database cannot be used (database or disk is full)" in err
    assert "Traceback" not in err
    filler.unlink()
    out, _ = shell.hpo("resume", "tiny", "--studies-dir", str(small_disk), "--json")
    assert json.loads(out)["trials"] == {"complete": 2, "pruned": 0, "fail": 0, "running": 0}


@pytest.mark.slow
def test_the_same_seed_gives_the_same_study(tmp_path: Path) -> None:
    space = SHORT.replace("learning_rate = 1e-3", "learning_rate = { low = 1e-4, high = 1e-1, log = true }")
    seen = []
    for name in ("first", "second"):
        (tmp_path / name).mkdir()
        shell = Shell(tmp_path / name, space)
        shell.hpo(*shell.asked("--seed", "5", "--concurrency", "1", "--no-retrain", "--grace-period", "1", trials=6))
        seen.append([(trial.params, trial.state, trial.intermediate_values) for trial in shell.trials()])

    assert seen[0] == seen[1]


@pytest.mark.slow
def test_hostile_names_and_bad_images_break_nothing(tmp_path: Path, photo_folder: Path) -> None:
    (photo_folder / "china").rename(photo_folder / "[bold]$x_{$[red] ,\"'<b>")
    china = photo_folder / "[bold]$x_{$[red] ,\"'<b>"
    (china / "0.jpg").rename(china / "=cmd('$^{').jpg")
    (china / "torn.jpg").write_bytes(b"no image")
    shell = Shell(tmp_path, SHORT.replace("epochs = 3", "epochs = 1"))
    name = "[bold]$_{ 100%d \N{SNOWMAN}'\"<i>;"

    _, err = shell.hpo(
        *("run", "--backbone", "tests.tiny_backbone:tiny", "--image-size", "16", "--space", "space.toml"),
        *("--dataset", f"imagefolder:{photo_folder}", "--study", name, "--trials", "1", "--skip-bad-images"),
    )

    assert "left out: " in err
    assert "torn.jpg" in err
    assert name in shell.hpo("status")[0]
    assert name in shell.hpo("status", name)[0]
    assert "torn.jpg" not in (tmp_path / "studies" / name / "splits.csv").read_text("utf-8")
    for form in ("toml", "json", "yaml", "csv"):
        shell.hpo("export", name, "--format", form)
    shell.hpo("delete", name, "--yes")
    assert not (tmp_path / "studies" / name).exists()


@pytest.mark.slow
def test_a_full_disk_of_checkpoints_stops_the_study_which_goes_on_once_there_is_room(
    tmp_path: Path, small_disk: Path
) -> None:
    shell = Shell(tmp_path, SHORT)

    _, err = shell.hpo(*shell.asked("--no-asha", "--no-retrain", "--checkpoints", str(small_disk), trials=2), code=1)

    assert "no room for the checkpoint of trial" in err
    assert "hpo resume tiny" in err
    assert "Traceback" not in err
    assert {trial.state.name for trial in shell.trials()} == {"RUNNING"}
    enlarge(small_disk, "64m")
    shell.hpo("resume", "tiny")
    assert [trial.state.name for trial in shell.trials()] == ["COMPLETE"] * 2
    assert not list(small_disk.rglob("*.ckpt"))
