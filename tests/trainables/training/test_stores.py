"""What a machine computes once: features equal to the long way's, files that are shared, bounded and rebuilt."""

import dataclasses
import errno
import gc
import importlib
import os
import sys
import weakref
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
from filelock import FileLock
from torchvision.models import get_model

from trainables.config import (
    PAPER_BACKBONES,
    DataConfig,
    FreezeMode,
    HeadKind,
    MachineConfig,
    ModelConfig,
    TrainedModel,
    TrialConfig,
)
from trainables.data.array_store import evict, new_array, open_array, stored_arrays
from trainables.networks import backbones
from trainables.networks.backbones import Network, build
from trainables.networks.freeze import moving
from trainables.networks.frozen_part import split
from trainables.networks.identity import resolve
from trainables.training import feature_store, trial
from trainables.training.epoch import new_learner
from trainables.training.feature_store import applies, with_features
from trainables.training.held_out_evaluation import look_at_test
from trainables.training.retraining import load, retrain
from trainables.training.trial import run_trial


def config(folder: Path, head: HeadKind = "projection", seed: int = 0, mode: FreezeMode = "backbone") -> TrialConfig:
    return TrialConfig(
        data=DataConfig(dataset="digits"),
        model=ModelConfig(backbone="tests.tiny_backbone:tiny", head=head, image_size=16, precision="fp32"),
        freeze_mode=mode,
        learning_rate=3e-3,
        batch_size=50,
        epochs=4,
        seed=seed,
        machine=MachineConfig(data_dir=str(folder)),
    )


@pytest.mark.parametrize(
    ("mode", "head"), [("backbone", "projection"), ("backbone", "linear"), ("partial", "projection")]
)
def test_what_trains_learns_on_features_what_it_learns_behind_its_backbone(
    mode: FreezeMode, head: HeadKind, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    short = list(run_trial(config(tmp_path, head, mode=mode)))
    assert len(list((tmp_path / "stores" / "features").glob("*.npy"))) == 1
    monkeypatch.setattr(feature_store, "applies", lambda _: False)
    long = list(run_trial(config(tmp_path, head, mode=mode)))

    assert [result.val_accuracy for result in short] == [result.val_accuracy for result in long]
    for name in ("val_loss", "train_loss", "learning_rate"):
        assert [getattr(one, name) for one in short] == pytest.approx([getattr(one, name) for one in long], abs=1e-5)


def test_the_retrain_learns_on_features_and_is_tested_on_images(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def predicted() -> list[int]:
        asked = config(tmp_path)
        *epochs, trained = retrain(asked, "train+val", [3e-3] * asked.epochs)
        assert isinstance(trained, TrainedModel)
        assert len(epochs) == asked.epochs
        said: list[int] = look_at_test(load(asked, trained)).predicted.tolist()
        return said

    short = predicted()
    monkeypatch.setattr(feature_store, "applies", lambda _: False)

    assert short == predicted()


@pytest.mark.parametrize("mode", ["backbone", "partial"])
@pytest.mark.parametrize("backbone", [*PAPER_BACKBONES, "torchvision:squeezenet1_1", "torchvision:mobilenet_v3_small"])
def test_a_network_in_two_parts_is_the_network(backbone: str, mode: FreezeMode) -> None:
    size = 96 if backbone == "inception" else 32
    network = build(ModelConfig(backbone=backbone, weights="none", image_size=size), 3, data_dir=None, seed=0)
    images = torch.randn(2, 3, size, size)
    network.model.eval()

    parts = split(network, moving(network, mode))

    assert parts is not None
    with torch.inference_mode():
        assert torch.equal(parts.tail(parts.frozen(images)), network.model(images))
    trained = {id(parameter) for path in moving(network, mode) for parameter in _below(network, path)}
    assert {id(parameter) for parameter in parts.tail.parameters()} == trained


def _below(network: Network, path: str) -> Iterator[torch.nn.Parameter]:
    return network.model.get_submodule(path).parameters()


def test_a_backbone_that_cannot_be_cut_is_trained_whole(tmp_path: Path) -> None:
    class Branching(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.last = torch.nn.Linear(3, 4), torch.nn.Linear(4, 4)

        def forward(self, images: torch.Tensor) -> torch.Tensor:
            pooled = self.first(images.mean((2, 3)))
            logits: torch.Tensor = self.last(pooled if pooled.sum() > 0 else -pooled)
            return logits

    assert split(Network(Branching(), "last", ("last",)), ("last",)) is None


def test_features_larger_than_the_store_are_not_kept(tmp_path: Path) -> None:
    small = config(tmp_path, mode="partial")
    machine = dataclasses.replace(small.machine, cache_bytes=10_000)
    results = list(run_trial(dataclasses.replace(small, machine=machine)))

    assert len(results) == 4
    assert not (tmp_path / "stores" / "features").exists()


def test_trials_share_the_features_and_other_weights_have_others(tmp_path: Path) -> None:
    resnet = ModelConfig(backbone="resnet18", image_size=32)
    data = trial.open_training_data(dataclasses.replace(config(tmp_path), model=resnet))
    names = []
    for seed in (0, 1):
        torch.manual_seed(seed)
        weights = tmp_path / f"{seed}.pth"
        torch.save(get_model("resnet18", weights=None).state_dict(), weights)
        model = ModelConfig(backbone="resnet18", weights=str(weights), image_size=32)
        for trial_seed in (0, 1):
            learner = new_learner(dataclasses.replace(config(tmp_path, seed=trial_seed), model=model), 10)
            features = with_features(learner, data.examples)[1].inputs
            assert isinstance(features, np.memmap)
            names.append(str(features.filename))

    assert names[0] == names[1] != names[2] == names[3]
    assert len(list((tmp_path / "stores" / "features").glob("*.npy"))) == 2


def test_other_code_of_the_same_modules_has_features_of_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    code = """
import torch

class Pooling(torch.nn.Module):
    def forward(self, images):
        return images.mean((2, 3)).repeat(1, 4)

def network():
    return Pooling()
"""
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    found = []
    for pooled in ("mean", "amax"):
        (tmp_path / "pooling.py").write_text(code.replace("mean", pooled), encoding="utf-8")
        monkeypatch.delitem(sys.modules, "pooling", raising=False)
        importlib.invalidate_caches()
        asked = config(tmp_path)
        model = resolve(dataclasses.replace(asked.model, backbone="pooling:network"), None)
        asked = dataclasses.replace(asked, model=model)
        data = trial.open_training_data(asked)
        found.append(np.array(with_features(new_learner(asked, 10), data.examples)[1].inputs))

    assert not np.allclose(found[0], found[1])


def test_features_are_found_again_by_a_process_that_is_warm_from_another_study(tmp_path: Path) -> None:
    weights = tmp_path / "headless.pth"
    state = get_model("resnet18", weights=None).state_dict()
    torch.save({name: value for name, value in state.items() if not name.startswith("fc.")}, weights)
    model = ModelConfig(backbone="resnet18", weights=str(weights), image_size=32)
    asked = dataclasses.replace(config(tmp_path), model=model)
    data = trial.open_training_data(asked)
    names = []
    for _ in range(2):
        # What another study leaves behind: its weights instead of these, and a random state that has moved on.
        backbones._pretrained.cache_clear()
        torch.rand(3)
        features = with_features(new_learner(asked, 10), data.examples)[1].inputs
        assert isinstance(features, np.memmap)
        names.append(str(features.filename))

    assert names[0] == names[1]


def test_augmented_and_whole_networks_have_no_features(tmp_path: Path) -> None:
    plain = config(tmp_path)
    assert applies(plain)
    assert applies(config(tmp_path, mode="partial"))
    assert not applies(config(tmp_path, mode="none"))
    assert not applies(dataclasses.replace(plain, data=dataclasses.replace(plain.data, augment="standard")))


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


def test_what_a_kill_left_half_built_goes_unless_it_is_being_built(tmp_path: Path) -> None:
    builds: list[str] = []
    folder = tmp_path / "images"
    stored(tmp_path, "a", 1, 2**30, builds)
    for name in ("left", "being-built"):
        (folder / f"{name}.partial").write_bytes(b"half")

    with FileLock(folder / "being-built.lock"):
        evict(tmp_path, 2**30)

    assert [path.stem for path in folder.glob("*.partial")] == ["being-built"]
    assert len(stored_arrays(tmp_path)) == 1


def test_an_array_that_is_just_being_opened_is_not_evicted(tmp_path: Path) -> None:
    builds: list[str] = []
    for name in ("opened", "other"):
        stored(tmp_path, name, 1, 2**30, builds)

    with FileLock(tmp_path / "images" / "opened.lock"):
        removed = evict(tmp_path, 0)

    assert [array.path.stem for array in removed] == ["other"]
    assert [array.path.stem for array in stored_arrays(tmp_path)] == ["opened"]


def test_trials_that_evict_each_others_arrays_all_get_theirs(tmp_path: Path) -> None:
    builds: list[str] = []
    names = "abc" * 100

    with ThreadPoolExecutor(8) as trials:
        arrays = list(trials.map(lambda name: stored(tmp_path, name, 1, 2**20, builds), names))

    assert all(len(array) == 2**20 and (array == 7).all() for array in arrays)


def test_an_array_that_a_disk_cannot_hold_is_an_error_and_no_bus_error(small_disk: Path) -> None:
    def build(path: Path) -> None:
        new_array(path, np.uint8, (2**20,))[:] = 7

    with pytest.raises(OSError, match="No space left on device") as refusal:
        open_array(small_disk / "images" / "a.npy", lambda _: True, build, 2**30)

    assert refusal.value.errno == errno.ENOSPC
    assert [path.suffix for path in (small_disk / "images").iterdir()] in ([], [".lock"])


@pytest.mark.parametrize("mode", ["partial", "backbone"])
def test_a_network_that_was_cut_goes_with_its_trial(tmp_path: Path, mode: FreezeMode) -> None:
    data = trial.open_training_data(config(tmp_path))
    learner, _ = with_features(new_learner(config(tmp_path, mode=mode), len(data.classes)), data.examples)
    assert learner.tail is not None
    network = weakref.ref(learner.network.model)

    gc.disable()
    del learner
    gc.enable()

    assert network() is None
