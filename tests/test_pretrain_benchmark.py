"""The benchmark of pretraining measures what it says it does."""

import argparse
import itertools
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from benchmarks import pretrain, pretrain_defaults
from benchmarks.pretrain import FRACTIONS, config, labelled, probe, quality
from trainables.contrastive.config import SMALL_IMAGE, usual


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
    options = argparse.Namespace(data_dir=tmp_path, seeds=1, epochs=1, batch_size=None, stem="torchvision")
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


def test_the_settings_are_half_of_all_and_hold_no_effect_of_another() -> None:
    chosen = list(pretrain_defaults.settings())

    assert len(chosen) == 8
    assert pretrain_defaults.PUBLISHED in chosen
    assert pretrain_defaults.CHOSEN in chosen
    for pair in itertools.combinations(pretrain_defaults.OPTIONS, 2):
        counts = Counter(tuple(one[name] for name in pair) for one in chosen)
        assert sorted(counts.values()) == [2, 2, 2, 2]


def test_the_defaults_are_what_was_chosen_and_the_docs_have_its_tables() -> None:
    assert usual(SMALL_IMAGE).items() >= pretrain_defaults.CHOSEN.items()
    assert usual(SMALL_IMAGE + 1).items() >= pretrain_defaults.PUBLISHED.items()
    kept = pretrain_defaults.kept()
    measured = {(one.task, one.seed, *one.options.values()) for one in kept}
    assert measured == {(task, seed, *options.values()) for task, seed, options in pretrain_defaults.wanted(3)}
    docs = (Path(__file__).parents[1] / "docs" / "pretrain.md").read_text("utf-8")
    assert pretrain_defaults.tables(kept) in docs
