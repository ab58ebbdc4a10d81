"""The benchmark of pretraining measures what it says it does."""

import argparse
from pathlib import Path

import numpy as np
import pytest

from benchmarks import pretrain
from benchmarks.pretrain import FRACTIONS, config, labelled, probe, quality


def test_labels_are_kept_of_each_class() -> None:
    labels = np.repeat(np.arange(10), 60)

    kept = {fraction: labelled(labels, fraction, 0) for fraction in FRACTIONS}

    assert {fraction: np.bincount(labels[chosen]).tolist() for fraction, chosen in kept.items()} == {
        0.01: [1] * 10,
        0.05: [3] * 10,
        0.1: [6] * 10,
        1.0: [60] * 10,
    }


def test_a_probe_is_linear() -> None:
    generator = np.random.default_rng(0)
    features = generator.normal(size=(400, 5))
    straight, crossed = features[:, 0] > 0, features[:, 0] * features[:, 1] > 0

    found = [probe(features[:300], of[:300], features[300:], of[300:]) for of in (straight, crossed)]

    assert found[0] > 0.95
    assert found[1] < 0.7


@pytest.mark.slow
def test_the_table_has_each_kind_of_features_on_the_test_images(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    options = argparse.Namespace(
        **{"data_dir": tmp_path, "seeds": 1, "epochs": 1, "batch": 256, "stem": "torchvision", "optimizer": "adam"},
        **{"learning_rate": 1e-3, "temperature": 0.5, "strength": 0.5, "min_crop": 0.2},
    )
    # A pretraining of a whole dataset takes too long for a test.
    monkeypatch.setattr(pretrain, "trained", pretrain.random)

    quality("digits", options)

    table = [line for line in capsys.readouterr().out.splitlines() if line.startswith("| ")]
    assert table[0] == "| labels | SimCLR | random network | raw pixels |"
    assert [line.split(" | ")[0] for line in table[1:]] == ["| 1%", "| 5%", "| 10%", "| 100%"]
    assert all(line.split(" | ")[1] == line.split(" | ")[2] for line in table[1:])
    assert float(table[3].split(" | ")[3][:5]) > 0.9
    assert not config("digits", 0, options).views.flip
    assert config("fashion-mnist", 0, options).views.flip
