"""A trial learns, repeats itself number for number, and continues from its checkpoint as if it had never stopped."""

import dataclasses
import platform
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch.optim.lr_scheduler import ReduceLROnPlateau

from trainables.config import Augment, DataConfig, EpochResult, FreezeMode, MachineConfig, ModelConfig, TrialConfig
from trainables.errors import InputError
from trainables.training.checkpoint import CheckpointError, restore
from trainables.training.epoch import batches, new_learner
from trainables.training.trial import begin, run_trial

BACKBONE = "tests.tiny_backbone:tiny"


def config(tmp_path: Path, mode: FreezeMode = "none", augment: Augment = "none", epochs: int = 4) -> TrialConfig:
    return TrialConfig(
        data=DataConfig(dataset="digits", augment=augment),
        model=ModelConfig(backbone=BACKBONE, image_size=16),
        learning_rate=3e-3,
        batch_size=64,
        epochs=epochs,
        freeze_mode=mode,
        seed=5,
        machine=MachineConfig(data_dir=str(tmp_path)),
    )


def numbers(result: EpochResult) -> tuple[float | None, ...]:
    """What of an epoch must repeat: all but its times."""
    return (result.epoch, result.val_accuracy, result.val_loss, result.train_loss, result.learning_rate)


def test_a_trial_learns(tmp_path: Path) -> None:
    results = list(run_trial(config(tmp_path, epochs=8)))

    assert [result.epoch for result in results] == list(range(1, 9))
    assert results[-1].val_accuracy > 0.8
    assert 0 < (results[-1].train_loss or 0) < (results[0].train_loss or 0)
    assert all((result.images_per_second or 0) > 0 and result.seconds > 0 for result in results)


@pytest.mark.parametrize("augment", ["none", "standard"])
@pytest.mark.parametrize("mode", ["none", "partial", "backbone"])
def test_a_trial_goes_on_number_for_number(tmp_path: Path, mode: FreezeMode, augment: Augment) -> None:
    trial = config(tmp_path, mode, augment)
    saved: list[bytes] = []
    whole = list(run_trial(trial, save=saved.append))

    resumed = list(run_trial(trial, resume_from=saved[1]))

    assert [numbers(result) for result in resumed] == [numbers(result) for result in whole]
    assert resumed[:2] == whole[:2]


def test_another_seed_gives_other_numbers(tmp_path: Path) -> None:
    trial = config(tmp_path, epochs=1)

    (first,) = run_trial(trial)
    (other,) = run_trial(dataclasses.replace(trial, seed=6))

    assert numbers(first) != numbers(other)


def test_a_frozen_trials_checkpoint_holds_its_head_only(tmp_path: Path) -> None:
    sizes = {}
    for mode in ("none", "backbone"):
        saved: list[bytes] = []
        list(run_trial(config(tmp_path, mode, epochs=1), save=saved.append))
        sizes[mode] = len(saved[0])

    assert sizes["backbone"] < 0.5 * sizes["none"]


def test_a_torn_or_foreign_checkpoint_is_noticed(tmp_path: Path) -> None:
    saved: list[bytes] = []
    trial = config(tmp_path, epochs=1)
    list(run_trial(trial, save=saved.append))

    with pytest.raises(CheckpointError, match="cannot be read"):
        next(run_trial(trial, resume_from=saved[0][:-100]))
    with pytest.raises(CheckpointError, match="another configuration"):
        next(run_trial(dataclasses.replace(trial, learning_rate=1.0), resume_from=saved[0]))


def test_a_trial_goes_on_where_a_scaler_is_needed_that_was_not(tmp_path: Path) -> None:
    """As from a card that computes in bfloat16 to one that has float16 only."""
    saved: list[bytes] = []
    (first,) = run_trial(config(tmp_path, epochs=1), save=saved.append)
    fresh, _ = begin(config(tmp_path, epochs=1))
    scaling = dataclasses.replace(fresh, scaler=torch.amp.GradScaler("cpu", init_scale=8.0))

    history = restore(saved[0], scaling, ReduceLROnPlateau(scaling.optimizer))

    assert history == [first]
    assert scaling.scaler.get_scale() == 8.0


def test_no_batch_holds_a_single_image_where_there_are_more() -> None:
    indices = torch.arange(65).numpy()

    assert [len(batch) for batch in batches(indices, 32)] == [32, 33]
    assert [len(batch) for batch in batches(indices[:1], 32)] == [1]
    assert [len(batch) for batch in batches(indices[:64], 32)] == [32, 32]


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another allocator")
def test_what_a_step_frees_serves_the_next() -> None:
    # In a process of its own: what other tests left on the heap decides where a block goes.
    script = """
import resource, torch
from torch import nn
from trainables.training.device import choose

def page_faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    torch.ones(50 * 2**20)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

choose("fp32", 1, nn.Linear(1, 1))
page_faults()
torch.empty(3 * 2**28)  # 3 GiB, more than an int of C counts.
# The least of some: a system that takes idle pages back makes single ones larger.
print(min(page_faults() for _ in range(5)))
"""

    answer = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)

    # 200 MB are 50,000 pages of 4 KiB.
    assert int(answer.stdout) < 1000


def test_nothing_random_is_frozen(tmp_path: Path) -> None:
    frozen = dataclasses.replace(
        config(tmp_path, "backbone"), model=ModelConfig(backbone="resnet18", weights="none", image_size=32)
    )

    with pytest.raises(InputError, match="nothing to freeze"):
        new_learner(frozen, 10)
