"""A study of SimCLR's own hyperparameters, and the encoder that it leads to."""

import dataclasses
import json
import shlex
from pathlib import Path

import pytest

from hpo.ledger.studies import open_study
from hpo.pretrain.files import metadata
from hpo.spec import trainable_config, trial_seed
from tests import pretraining as small
from tests.e2e.shell import Shell
from trainables.contrastive.pretraining import PRETRAINING_KEY
from trainables.contrastive.trial import pretrain_config
from trainables.trainable import run

SPACE = """
[parameters]
temperature = { low = 0.1, high = 1.0, log = true }
learning_rate = { low = 1e-3, high = 1e-1, log = true }
batch_size = { choices = [8, 12] }
strength = { low = 0.0, high = 1.0 }
flip = { choices = [true, false] }
projection = 16
warmup_epochs = 1
epochs = 3
"""


@pytest.mark.slow
def test_the_best_configuration_of_a_study_is_pretrained_by_the_command_that_it_ends_with(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shell = Shell(tmp_path, SPACE)
    monkeypatch.setenv("HPO_DATA_DIR", shell.environment["HPO_DATA_DIR"])
    small.write_images(shell.folder / "images")
    asked = (
        *("run", "--trainable", "simclr-pretrain", "--backbone", "resnet18", "--image-size", "8", "--seed", "4"),
        *("--dataset", "imagefolder:images", "--space", "space.toml", "--study", "tiny", "--precision", "fp32"),
        *("--grace-period", "1", "--reduction-factor", "2"),
    )

    shell.hpo(*asked, "--trials", "2")
    out, _ = shell.hpo(*asked, "--trials", "4")
    line = next(line for line in out.splitlines() if line.startswith("simclr-pretrain has no final model"))
    command = shlex.split(line.partition("best configuration: ")[2])
    summary = json.loads(shell.hpo("status", "tiny", "--json")[0])
    shell.hpo(*command[1:], "--output", "best.safetensors")

    ledger = open_study(shell.url, "tiny")
    records = {record.number: record for record in ledger.records()}
    best = records[summary["best"]["number"]]
    assert len(records) == 4
    assert ledger.spec.model.backbone == "small:resnet18"
    assert line.endswith(shlex.join(command))
    assert summary["use"] in line
    for record in records.values():
        assert [one.epoch for one in record.curve] == list(range(1, len(record.curve) + 1))
        assert record.curve[-1].extra.keys() == {"top1", "alignment", "uniformity"}
    config = trainable_config(
        ledger.spec, ledger.run_options, best.params, trial_seed(ledger.spec, best.number), 1, None
    )
    first = next(run("simclr-pretrain", config))
    assert first.val_accuracy == best.curve[0].val_accuracy
    assert first.train_loss == best.curve[0].train_loss
    trained = metadata(shell.folder / "best.safetensors")[PRETRAINING_KEY]
    expected = json.loads(json.dumps(dataclasses.asdict(pretrain_config(config))))
    # Each has a random start of its own; the study has looked at its images, and measures more often.
    for one in (trained, expected):
        del one["seed"], one["knn_every"]
        for name in ("splits_sha256", "train_sha256", "test_sha256"):
            del one["data"][name]
    assert trained == expected
