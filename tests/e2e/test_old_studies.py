"""Studies of earlier versions, opened, continued and retrained by this one through the real command line."""

import json
import shutil

import pytest

from hpo.ledger.studies import open_study
from hpo.spec import trial_seed
from tests.e2e.shell import ROOT, Shell

LEDGERS = ROOT / "tests" / "assets" / "ledgers"
VERSIONS = sorted(folder.name for folder in LEDGERS.iterdir() if folder.is_dir())


@pytest.fixture(scope="module", params=VERSIONS)
def shell(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Shell:
    shell = Shell(tmp_path_factory.mktemp("old"))
    shutil.copytree(LEDGERS / request.param / "studies", shell.folder / "studies")
    return shell


def test_an_old_study_is_shown_and_exported(shell: Shell) -> None:
    out, _ = shell.hpo("status", "finished")
    exported, _ = shell.hpo("export", "finished", "--format", "json")

    assert "0.9611" in out
    assert json.loads(exported)["best"][0]["number"] == 0
    spec = open_study(shell.url, "finished").spec
    assert (spec.data.dataset, spec.model.image_size, spec.search.sampler) == ("digits", 16, "tpe")


@pytest.mark.slow
def test_an_interrupted_old_study_continues_from_its_checkpoint(shell: Shell) -> None:
    before = shell.trials("interrupted")
    reached = len(before[0].intermediate_values)
    assert before[0].state.name == "RUNNING"
    assert reached > 1

    _, err = shell.hpo("resume", "interrupted", "--json")

    after = shell.trials("interrupted")
    assert "starts again from epoch 0" not in err
    assert {trial.state.name for trial in after} <= {"COMPLETE", "PRUNED"}
    old = before[0].intermediate_values
    assert {epoch: after[0].intermediate_values[epoch] for epoch in old} == old
    assert list(after[0].intermediate_values) == list(range(1, len(after[0].intermediate_values) + 1))
    assert open_study(shell.url, "interrupted").final is not None


@pytest.mark.slow
def test_an_old_study_is_retrained_and_gets_more_trials(shell: Shell) -> None:
    looks = open_study(shell.url, "finished").test_looks

    out, _ = shell.hpo("retrain", "finished", "--json")
    shell.hpo("resume", "finished", "--trials", "7", "--json")

    final = json.loads(out)["final"]
    assert final["test_accuracy"] > 0.9
    assert final["test_looks"] == looks + 1
    # Its trials kept no predictions, so nothing can be said about ties.
    assert final["validation"]["tied_trials"] is None
    assert len(shell.trials("finished")) == 7


@pytest.mark.slow
def test_a_run_with_the_old_command_tops_an_old_study_up(shell: Shell) -> None:
    asked = list(shell.asked("--seed", "3", "--no-retrain", trials=8))
    asked[asked.index("tiny")] = "finished"

    shell.hpo(*asked)

    assert len(shell.trials("finished")) == 8


def test_trials_of_an_old_study_keep_its_seeds(shell: Shell) -> None:
    spec = open_study(shell.url, "finished").spec

    assert trial_seed(spec, 5) == 3 * 1_000_003 + 5
    assert spec.data.split_seeds.labels == (3, 1)
