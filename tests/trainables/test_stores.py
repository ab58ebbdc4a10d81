"""What a machine computes once: features equal to the long way's, files that are shared, bounded and mended."""

import dataclasses
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from torchvision.models import get_model

from trainables import feature_store, trial
from trainables.array_store import evict, open_array, stored_arrays
from trainables.backbones import geometry
from trainables.config import PAPER_BACKBONES, DataConfig, EpochResult, HeadKind, ModelConfig, TrialConfig
from trainables.feature_store import applies, with_features
from trainables.final import begin, train_on_all
from trainables.held_out_evaluation import look_at_test
from trainables.learning import forward, new_learner
from trainables.trial import run_trial


def config(folder: Path, head: HeadKind = "projection", seed: int = 0) -> TrialConfig:
    return TrialConfig(
        data=DataConfig(dataset="digits", data_dir=str(folder)),
        model=ModelConfig(backbone="tests.tiny_backbone:tiny", freeze_mode="backbone", head=head, image_size=16),
        learning_rate=3e-3,
        batch_size=50,
        epochs=4,
        seed=seed,
    )


@pytest.mark.parametrize("head", ["projection", "linear"])
def test_a_head_on_features_learns_what_it_learns_behind_its_backbone(
    head: HeadKind, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    short = list(run_trial(config(tmp_path, head)))
    monkeypatch.setattr(trial, "applies", lambda _: False)
    long = list(run_trial(config(tmp_path, head)))

    assert [result.val_accuracy for result in short] == [result.val_accuracy for result in long]
    for name in ("val_loss", "train_loss", "learning_rate"):
        assert [getattr(one, name) for one in short] == pytest.approx([getattr(one, name) for one in long], abs=1e-5)


def test_the_retrain_learns_on_features_and_is_tested_on_images(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def predicted() -> list[int]:
        learner, data = begin(config(tmp_path))
        results: list[EpochResult] = list(train_on_all(learner, data, [3e-3] * 3))
        assert len(results) == 3
        said: list[int] = look_at_test(learner).predicted.tolist()
        return said

    short = predicted()
    monkeypatch.setattr("trainables.final.applies", lambda _: False)

    assert short == predicted()


@pytest.mark.parametrize("backbone", [*PAPER_BACKBONES, "torchvision:squeezenet1_1", "torchvision:mobilenet_v3_small"])
def test_what_reaches_the_head_is_all_that_the_logits_depend_on(backbone: str) -> None:
    size = 96 if backbone == "inception" else 32
    model = ModelConfig(backbone=backbone, weights="none", image_size=size)
    learner = new_learner(dataclasses.replace(config(Path()), model=model), 3)
    images = torch.randint(0, 256, (2, 3, size, size), dtype=torch.uint8)
    learner.network.model.eval()
    head = learner.network.model.get_submodule(learner.network.head_path)

    features = feature_store._features(learner, head, images)

    assert features.ndim == 2
    with torch.inference_mode():
        assert torch.equal(forward(learner, features), forward(learner, images))


def test_trials_share_the_features_and_other_weights_have_others(tmp_path: Path) -> None:
    data = trial.open_training_data(config(tmp_path).data, geometry("resnet18", 32))
    names = []
    for seed in (0, 1):
        torch.manual_seed(seed)
        weights = tmp_path / f"{seed}.pth"
        torch.save(get_model("resnet18", weights=None).state_dict(), weights)
        model = ModelConfig(backbone="resnet18", weights=str(weights), freeze_mode="backbone", image_size=32)
        for trial_seed in (0, 1):
            learner = new_learner(dataclasses.replace(config(tmp_path, seed=trial_seed), model=model), 10)
            features = with_features(learner, data.examples).inputs
            assert isinstance(features, np.memmap)
            names.append(str(features.filename))

    assert names[0] == names[1] != names[2] == names[3]
    assert len(list((tmp_path / "stores" / "features").glob("*.npy"))) == 2


def test_augmentation_partial_freezing_and_the_papers_head_have_no_features(tmp_path: Path) -> None:
    base = config(tmp_path)
    partial = dataclasses.replace(base, model=dataclasses.replace(base.model, freeze_mode="partial"))

    assert applies(base)
    assert not applies(dataclasses.replace(base, augment="standard"))
    assert not applies(partial)
    assert not applies(config(tmp_path, head="paper"))


def stored(folder: Path, name: str, megabytes: int, bound: int, builds: list[str]) -> np.ndarray:
    def build(path: Path) -> None:
        builds.append(name)
        with path.open("wb") as file:
            np.save(file, np.full(megabytes * 2**20, 7, np.uint8))

    return open_array(folder / "images" / f"{name}.npy", lambda array: len(array) == megabytes * 2**20, build, bound)


def test_the_least_recently_used_make_room(tmp_path: Path) -> None:
    builds: list[str] = []
    for age, name in enumerate("abc"):
        stored(tmp_path, name, 1, 4 * 2**20, builds)
        os.utime(tmp_path / "images" / f"{name}.npy", (age, age))
    held = stored(tmp_path, "a", 1, 4 * 2**20, builds)

    stored(tmp_path, "d", 2, 4 * 2**20, builds)

    assert [array.path.stem for array in stored_arrays(tmp_path)] == ["a", "d"]
    assert builds == ["a", "b", "c", "d"]
    assert len(evict(tmp_path, 0)) == 2
    assert held.sum() == 7 * 2**20


def test_an_array_larger_than_the_bound_is_kept_while_it_is_needed(tmp_path: Path) -> None:
    builds: list[str] = []
    stored(tmp_path, "large", 3, 2**20, builds)

    assert len(stored(tmp_path, "large", 3, 2**20, builds)) == 3 * 2**20
    assert builds == ["large"]


def test_a_damaged_or_half_built_array_is_built_again(tmp_path: Path) -> None:
    builds: list[str] = []
    path = tmp_path / "images" / "a.npy"
    stored(tmp_path, "a", 1, 2**30, builds)
    path.write_bytes(path.read_bytes()[:5000])
    path.with_suffix(".partial").write_bytes(b"left by a kill")

    again = stored(tmp_path, "a", 1, 2**30, builds)

    assert builds == ["a", "a"]
    assert (again == 7).all()
    assert not path.with_suffix(".partial").exists()
