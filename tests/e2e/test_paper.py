"""`hpo paper` as people type it: planned, interrupted, continued, and on Oxford-IIIT Pet's own layout."""

import csv
import signal
from pathlib import Path

import optuna
import pytest

from tests import pets
from tests.e2e.shell import Shell, wait_for_checkpoint

TINY = "tests.tiny_backbone:tiny"
EXPERIMENT = f"""
name = "tiny"
title = "A small paper"
source = "Nobody, nowhere, never"
dataset = "digits"
backbones = ["{TINY}"]
study_trials = 2

[protocol]
evaluation_mode = "train"
split = "unseeded"
measured = "last epoch"

[[figures]]
id = "rates"
title = "Figure 1: learning rate"
kind = "bars"
varies = "learning_rate"
levels = [0.01, 0.001]
fixed = {{ batch_size = 64, freeze_mode = "none", epochs = 4 }}
published = {{ "{TINY}" = [0.9, 0.8] }}

[[figures]]
id = "epochs"
title = "Figure 2: epochs"
kind = "bars"
varies = "epochs"
levels = [2, 4]
fixed = {{ learning_rate = 0.01, batch_size = 64, freeze_mode = "none" }}
published = {{ "{TINY}" = [0.8, 0.9] }}

[[figures]]
id = "transfer"
title = "Figure 3: transfer learning"
kind = "bars"
varies = "freeze_mode"
levels = ["none", "backbone"]
fixed = {{ learning_rate = 0.01, batch_size = 64, epochs = 4 }}
published = {{ "{TINY}" = [0.9, "unknown"] }}

[[conclusions]]
id = "rate"
text = "A higher learning rate is better."

[[conclusions.tests]]
text = "0.01 is better than 0.001"
figure = "rates"
first = 0.01
second = 0.001
above = 0.0
"""
RUN = ("paper", "tiny.toml", "--image-size", "16")


@pytest.fixture
def shell(tmp_path: Path) -> Shell:
    (tmp_path / "tiny.toml").write_text(EXPERIMENT, encoding="utf-8")
    return Shell(tmp_path)


def cells(folder: Path) -> list[dict[str, str]]:
    (table,) = folder.rglob("cells.csv")
    return list(csv.DictReader(table.read_text(encoding="utf-8").splitlines()))


def looks(shell: Shell, study: str) -> int:
    return int(optuna.load_study(study_name=study, storage=shell.url).user_attrs["test_looks"])


@pytest.mark.slow
def test_a_paper_that_was_stopped_is_continued_by_the_same_command(shell: Shell) -> None:
    process = shell.start(*RUN)
    wait_for_checkpoint(shell.folder / "studies", process)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=120)
    assert process.returncode == 130, said
    assert said.splitlines()[-1] == "stopped; continue with: hpo paper tiny.toml --image-size 16"

    out, _ = shell.hpo(*RUN)

    page = shell.folder / out.strip()
    assert page == shell.folder / "studies" / "reports" / "tiny-digits" / "report.html"
    assert "A small paper" in page.read_text(encoding="utf-8")
    grid, search = f"tiny-{TINY}-digits", f"tiny-{TINY}-digits-search"
    trials = shell.trials(grid)
    assert [(trial.state.name, trial.last_step) for trial in trials] == [("COMPLETE", 4)] * 3
    assert [sorted(trial.intermediate_values) for trial in trials] == [[1, 2, 3, 4]] * 3
    assert len(shell.trials(search)) == 2
    measured = cells(page.parent)
    assert len(measured) == 4
    assert looks(shell, grid) == 4
    assert looks(shell, search) == 1


@pytest.mark.slow
def test_the_same_command_runs_on_the_layout_of_oxford_iiit_pet(shell: Shell, photographs: list[Path]) -> None:
    pets.write(shell.folder / "data", photographs)

    out, _ = shell.hpo(*RUN, "--dataset", "pets", "--scale", "0.5", "--trials", "0", "--as-published")

    assert len(cells(shell.folder / Path(out.strip()).parent)) == 4
    assert {trial.params["protocol"] for trial in shell.trials(f"tiny-{TINY}-pets-as-published")} == {
        "training_mode unseeded_split last_epoch"
    }


def test_a_dry_run_prints_runs_epochs_and_hours_and_starts_nothing(shell: Shell) -> None:
    out, _ = shell.hpo(*RUN, "--dry-run")

    assert "4 configurations are measured by 3 runs in 1 studies." in out
    assert not (shell.folder / "studies").exists()
