"""Where memory runs out, training continues with half as many images at a time, from its checkpoint, until it fits."""

import dataclasses
from collections.abc import Generator
from pathlib import Path

import pytest
import torch

from tests.failing_backbones import ROOM
from trainables.config import SMALLEST_MICRO_BATCH, DataConfig, EpochResult, MachineConfig, ModelConfig, TrialConfig
from trainables.training.micro_batches import in_memory
from trainables.training.trial import run_trial


def config(folder: Path, batch_size: int = 64, backbone: str = "tests.failing_backbones:crowded") -> TrialConfig:
    return TrialConfig(
        data=DataConfig(dataset="digits"),
        model=ModelConfig(backbone=backbone, image_size=16, precision="fp32"),
        learning_rate=3e-3,
        batch_size=batch_size,
        epochs=3,
        seed=5,
        machine=MachineConfig(data_dir=str(folder)),
    )


def sizes(asked: TrialConfig, room: int) -> list[int | None]:
    """Return the micro-batches that are tried where `room` images fit."""
    tried: list[int | None] = []

    def begin(fitting: TrialConfig) -> Generator[int, None, None]:
        tried.append(fitting.machine.micro_batch)
        if (fitting.machine.micro_batch or fitting.batch_size) > room:
            raise torch.OutOfMemoryError("too many")
        yield 1

    list(in_memory(asked, begin))
    return tried


def test_half_as_many_images_are_tried_until_they_fit(tmp_path: Path) -> None:
    assert sizes(config(tmp_path), room=64) == [None]
    assert sizes(config(tmp_path), room=ROOM) == [None, 32, 16, 8]
    assert sizes(config(tmp_path, batch_size=50), room=ROOM) == [None, 25, 12, 6]
    assert sizes(config(tmp_path), room=SMALLEST_MICRO_BATCH) == [None, 32, 16, 8, 4, 2]


def test_one_that_was_split_before_is_split_further(tmp_path: Path) -> None:
    asked = config(tmp_path)
    split = dataclasses.replace(asked, machine=dataclasses.replace(asked.machine, micro_batch=16))

    assert sizes(split, room=ROOM) == [16, 8]


def test_a_batch_that_is_too_large_trains_in_parts(tmp_path: Path) -> None:
    fitted = list(in_memory(config(tmp_path), run))

    assert [(fitting.machine.micro_batch, result.epoch) for fitting, result in fitted] == [(ROOM, i) for i in (1, 2, 3)]
    assert dataclasses.replace(fitted[0][0], machine=config(tmp_path).machine) == config(tmp_path)
    assert 0 < (fitted[-1][1].train_loss or 0) < (fitted[0][1].train_loss or 0)


def run(fitting: TrialConfig) -> Generator[EpochResult, None, None]:
    yield from run_trial(fitting)


def test_the_loss_of_a_step_in_parts_is_that_of_the_whole_batch(tmp_path: Path) -> None:
    """For a network whose images do not see each other, in evaluation as in training."""
    whole = config(tmp_path, backbone="tests.tiny_backbone:tinier")
    split = dataclasses.replace(whole, machine=dataclasses.replace(whole.machine, micro_batch=ROOM))

    for one, other in zip(run_trial(whole), run_trial(split), strict=True):
        assert other.train_loss == pytest.approx(one.train_loss, rel=1e-3)
        assert other.val_loss == pytest.approx(one.val_loss, rel=1e-3)


def test_training_continues_from_its_checkpoint(tmp_path: Path) -> None:
    asked = config(tmp_path, backbone="tests.tiny_backbone:tiny")
    saved: list[bytes] = []

    def begin(fitting: TrialConfig) -> Generator[EpochResult, None, None]:
        for result in run_trial(fitting, resume_from=saved[-1] if saved else None, save=saved.append):
            yield result
            if fitting.machine.micro_batch is None and result.epoch == 2:
                raise torch.OutOfMemoryError("another process took it")

    fitted = list(in_memory(asked, begin))

    assert [(fitting.machine.micro_batch, one.epoch) for fitting, one in fitted] == [
        *((None, epoch) for epoch in (1, 2)),
        *((32, epoch) for epoch in (1, 2, 3)),
    ]
    # The first two come from the record.
    assert fitted[2][1] == fitted[0][1]
    assert fitted[3][1] == fitted[1][1]
    assert len(saved) == 3


def test_no_fewer_images_than_batch_norm_needs_are_tried(tmp_path: Path) -> None:
    with pytest.raises(torch.OutOfMemoryError, match="too many"):
        sizes(config(tmp_path), room=SMALLEST_MICRO_BATCH - 1)
    with pytest.raises(torch.OutOfMemoryError, match="too many"):
        sizes(config(tmp_path, batch_size=2 * SMALLEST_MICRO_BATCH - 1), room=SMALLEST_MICRO_BATCH)


@pytest.mark.parametrize(
    ("error", "tried"),
    [
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"), 2),
        (RuntimeError("CUDA error: out of memory"), 2),
        (RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"), 2),
        (RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory"), 2),
        (RuntimeError("mat1 and mat2 shapes cannot be multiplied"), 1),
        (ArithmeticError("this backbone never learns"), 1),
    ],
)
def test_another_error_is_raised_at_once(tmp_path: Path, error: Exception, tried: int) -> None:
    begun: list[int | None] = []

    def begin(fitting: TrialConfig) -> Generator[int, None, None]:
        begun.append(fitting.machine.micro_batch)
        if len(begun) == 1:
            raise error
        yield 1

    running = in_memory(config(tmp_path), begin)
    if tried == 1:
        with pytest.raises(type(error), match=str(error)):
            next(running)
    else:
        assert next(running)[1] == 1
    assert begun == [None, 32][:tried]


def test_what_is_closed_closes_what_it_runs(tmp_path: Path) -> None:
    closed = []

    def begin(fitting: TrialConfig) -> Generator[int, None, None]:
        try:
            yield 1
            yield 2
        finally:
            closed.append(fitting)

    running = in_memory(config(tmp_path), begin)
    next(running)
    running.close()

    assert closed == [config(tmp_path)]
