"""A user's own trainable, which needs no torch, as a whole study: ASHA, a kill, resume, and all that looks at it."""

import shutil
import tomllib

import pandas as pd
import pytest

from hpo.errors import HpoError
from hpo.ledger.studies import open_study
from hpo.models.folder import model_of_study
from hpo.paths import StudyPaths
from hpo.spec import trainable_config, trial_seed
from hpo.studies.readiness import verify
from tests.e2e.shell import ROOT, Shell, wait_for_checkpoint
from tests.toy_trainable import train
from trainables.errors import InputError

SPACE = """
[parameters]
rate = { low = 1e-3, high = 1.0, log = true }
shape = { choices = ["round", "square"] }
epochs = { low = 2, high = 8, step = 2 }
is_big = { choices = [true, false] }

[[enqueue]]
rate = 0.1
shape = "round"
epochs = 8
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
        *("--trials", "8", "--grace-period", "2", "--reduction-factor", "2"),
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

    assert {record.state for record in records} == {"COMPLETE", "PRUNED"}
    assert len(records) == 8
    assert ledger.final is None
    for record in records:
        seed = trial_seed(ledger.spec, record.number)
        expected = train(trainable_config(ledger.spec, ledger.run_options, record.params, seed, 1, None))
        for had, would in zip(record.curve, expected, strict=False):
            assert (had.val_accuracy, had.extra) == (would.val_accuracy, would.extra)
            assert had.seconds > 0
            assert had.train_loss is None


def test_its_parameters_are_shown_and_exported(shell: Shell) -> None:
    out, _ = shell.hpo("status", "tiny")
    exported, _ = shell.hpo("export", "tiny", "--top", "2")

    heading = next(line for line in out.splitlines() if line.startswith("trial"))
    assert heading.split() == ["trial", "state", "rate", "shape", "is", "big", "epochs", "best", "epoch", "validation"]
    assert "own_trainable:train has no final model" in out
    document = tomllib.loads(exported)
    assert document["parameters"].keys() == {"rate", "shape", "epochs", "is_big"}
    assert document["enqueue"][0]["shape"] == "round"


def test_its_report_is_whole(shell: Shell) -> None:
    out, err = shell.hpo("report", "tiny")

    page = shell.folder / out.strip()
    assert "Traceback" not in err
    assert "there is no final model and no held-out test accuracy" in page.read_text(encoding="utf-8")
    curves = pd.read_csv(page.parent / "tables" / "curves.csv")
    assert curves["distance"].notna().all()
    assert "note" not in curves
    assert {"history", "curves", "slices"} <= {path.stem for path in (page.parent / "figures").glob("*.png")}


def test_there_is_nothing_to_retrain_and_no_model(shell: Shell) -> None:
    _, err = shell.hpo("retrain", "tiny", code=2)
    with pytest.raises(HpoError, match="tiny has no final model: its trials run own_trainable:train"):
        model_of_study(StudyPaths(shell.folder / "studies", "tiny"), shell.url)

    assert err.strip().splitlines()[-1] == (
        "error: study tiny: own_trainable:train has no final model; `hpo export tiny` gives its best configuration."
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
