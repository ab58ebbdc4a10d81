"""A user's own trainable, which needs no torch, as a whole study: ASHA, a kill, resume, and all that looks at it."""

import shutil
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest

from hpo.cli.main import main
from hpo.dashboard.notes import study_note
from hpo.ledger.studies import open_study
from hpo.spec import trainable_config, trial_seed
from hpo.studies.readiness import verify
from tests.e2e.shell import ROOT, Shell, wait_for_checkpoint
from tests.toy_trainable import train
from trainables.errors import InputError

Hpo = Callable[..., tuple[object, str, str]]
SPACE = """
[parameters]
rate = { low = 1e-3, high = 1.0, log = true }
shape = { choices = ["round", "square"] }
epochs = { low = 2, high = 6, step = 2 }
is_big = { choices = [true, false] }

[[enqueue]]
rate = 0.1
shape = "round"
epochs = 6
"""


@pytest.fixture(scope="module")
def shell(tmp_path_factory: pytest.TempPathFactory) -> Shell:
    """A study that was killed while its trials ran, and resumed."""
    shell = Shell(tmp_path_factory.mktemp("trainable"), SPACE)
    shutil.copy(ROOT / "tests" / "toy_trainable.py", shell.folder / "own_trainable.py")
    hold = shell.folder / "data" / "hold"
    hold.parent.mkdir()
    hold.touch()
    process = shell.start(
        *("run", "--trainable", "own_trainable:train", "--backbone", "resnet18", "--weights", "none"),
        *("--dataset", "digits", "--image-size", "8", "--space", "space.toml", "--study", "tiny"),
        *("--trials", "6", "--grace-period", "2", "--reduction-factor", "2"),
    )
    wait_for_checkpoint(shell.folder, process)
    process.kill()
    process.communicate()
    assert [trial.state.name for trial in shell.trials()].count("RUNNING") >= 1
    hold.unlink()
    out, err = shell.hpo("resume", "tiny")
    assert "Traceback" not in err
    assert "own_trainable:train has no final model; `hpo export tiny` gives its best configuration." in out
    return shell


def test_it_ends_as_if_it_had_not_been_killed(shell: Shell) -> None:
    ledger = open_study(shell.url, "tiny")
    records = ledger.records()

    # How many ASHA stops depends on who came to a rung first.
    assert "COMPLETE" in {record.state for record in records} <= {"COMPLETE", "PRUNED"}
    assert len(records) == 6
    assert ledger.final is None
    for record in records:
        seed = trial_seed(ledger.spec, record.number)
        expected = train(trainable_config(ledger.spec, ledger.run_options, record.params, seed, 1, None))
        for had, would in zip(record.curve, expected, strict=False):
            assert (had.val_accuracy, had.extra) == (would.val_accuracy, would.extra)
            assert had.seconds > 0
            assert had.train_loss is None


@pytest.fixture
def hpo(shell: Shell, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Hpo:
    """Run `hpo` in this process, since Python's imports take seconds, and return its exit code and what it said."""
    monkeypatch.chdir(shell.folder)
    monkeypatch.setenv("HPO_DATA_DIR", str(shell.folder / "data"))

    def run(*arguments: str) -> tuple[object, str, str]:
        monkeypatch.setattr(sys, "argv", ["hpo", *arguments])
        with pytest.raises(SystemExit) as end:
            main()
        return end.value.code, *capsys.readouterr()

    return run


def test_its_parameters_are_shown_and_exported(hpo: Hpo, shell: Shell) -> None:
    _, out, _ = hpo("status", "tiny")
    _, exported, _ = hpo("export", "tiny", "--top", "2")
    note = study_note(open_study(shell.url, "tiny"), None, "hpo resume tiny")

    heading = next(line for line in out.splitlines() if line.startswith("trial"))
    assert heading.split() == ["trial", "state", "rate", "shape", "is", "big", "epochs", "best", "epoch", "validation"]
    assert "own_trainable:train has no final model" in out
    document = tomllib.loads(exported)
    assert document["parameters"].keys() == {"rate", "shape", "epochs", "is_big"}
    assert document["enqueue"][0]["shape"] == "round"
    assert "| trainable | own\\_trainable:train |" in note


def test_its_report_is_whole(hpo: Hpo) -> None:
    code, out, err = hpo("report", "tiny")

    page = Path(out.strip())
    assert (code, "Traceback" in err) == (0, False)
    assert "there is no final model and no held-out test accuracy" in page.read_text(encoding="utf-8")
    curves = pd.read_csv(page.parent / "tables" / "curves.csv")
    assert curves["distance"].notna().all()
    assert "note" not in curves
    assert {"history", "curves", "slices"} <= {path.stem for path in (page.parent / "figures").glob("*.png")}


def test_there_is_nothing_to_retrain_and_no_model(hpo: Hpo) -> None:
    retrained = hpo("retrain", "tiny")
    predicted = hpo("predict", "tiny", ".")

    assert (retrained[0], retrained[2].splitlines()[-1]) == (
        2,
        "error: study tiny: own_trainable:train has no final model; `hpo export tiny` gives its best configuration.",
    )
    assert (predicted[0], predicted[2].splitlines()[-1]) == (
        1,
        "error: study tiny has no final model: its trials run own_trainable:train.",
    )


def test_another_code_is_refused(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(shell.folder)
    monkeypatch.setenv("HPO_DATA_DIR", str(shell.folder / "data"))
    ledger = open_study(shell.url, "tiny")
    verify(ledger.spec, ledger.run_options)
    with (shell.folder / "own_trainable.py").open("a", encoding="utf-8") as file:
        file.write("# edited\n")

    with pytest.raises(InputError, match="the file of own_trainable is not what the study was started with"):
        verify(ledger.spec, ledger.run_options)
