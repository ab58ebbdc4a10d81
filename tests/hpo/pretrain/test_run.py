"""The life of a pretraining: its files, and what is said where it cannot go on."""

import dataclasses
from pathlib import Path
from typing import Any

import pytest
import torch

from hpo.errors import HpoError, UsageError
from hpo.pretrain.files import files_of, metadata, owned
from hpo.pretrain.run import Pretrained, run_pretraining
from tests import pretraining as small
from trainables.contrastive.together import ProcessEnded
from trainables.data.datasets import training_images


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small.write_images(tmp_path_factory.mktemp("pretrain") / "images")


def run(folder: Path, output: Path, **changes: Any) -> Pretrained:
    return run_pretraining(small.config(folder, epochs=1, **changes), small.machine(folder), output)


@pytest.fixture(scope="module")
def made(folder: Path) -> Pretrained:
    return run(folder, folder.parent / "encoder.safetensors")


def test_only_the_encoder_is_left(made: Pretrained) -> None:
    assert [path.name for path in made.encoder.parent.iterdir() if path.is_file()] == ["encoder.safetensors"]
    assert metadata(made.encoder)["pretraining"]["backbone"] == "small:resnet18"
    assert made.summary["knn_accuracy"] == made.last.knn_accuracy


def test_the_same_again_finds_it_done(made: Pretrained, folder: Path) -> None:
    before = made.encoder.stat().st_mtime_ns

    assert run(folder, made.encoder) == made
    assert made.encoder.stat().st_mtime_ns == before


def test_another_one_does_not_write_over_it(made: Pretrained, folder: Path) -> None:
    with pytest.raises(UsageError, match=r"is there already, pretrained with temperature 0\.5 instead of 0\.1"):
        run(folder, made.encoder, temperature=0.1)


def test_nor_does_one_of_images_that_have_changed_since(tmp_path: Path) -> None:
    folder = small.write_images(tmp_path / "images")
    output, data = tmp_path / "e.safetensors", small.config(folder).data
    known = dataclasses.replace(data, train_sha256=training_images(data).content_sha256)
    run(folder, output, data=known)
    (folder / "red" / "00.png").rename(folder / "red" / "first.png")

    changed = dataclasses.replace(data, train_sha256=training_images(data).content_sha256)
    with pytest.raises(UsageError, match="pretrained with other images in the dataset"):
        run(folder, output, data=changed)


def test_an_encoder_from_before_images_were_recorded_is_taken(made: Pretrained, folder: Path) -> None:
    data = small.config(folder).data
    known = dataclasses.replace(data, train_sha256=training_images(data).content_sha256)

    assert run(folder, made.encoder, data=known).last == made.last


def test_nor_over_a_file_that_is_none_of_ours(folder: Path, tmp_path: Path) -> None:
    output = tmp_path / "mine.safetensors"
    output.write_bytes(b"something else")

    with pytest.raises(UsageError, match="no encoder that hpo pretrained"):
        run(folder, output)

    assert output.read_bytes() == b"something else"


def test_a_loss_that_is_no_number_leaves_nothing(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(HpoError, match="the loss is no number in epoch 1: lower --learning-rate"):
        run(folder, tmp_path / "x.safetensors", learning_rate=1e38, warmup_epochs=0, optimizer="lars")

    assert not list(tmp_path.iterdir())


def test_a_state_of_another_one_is_named(folder: Path, tmp_path: Path) -> None:
    files = files_of(tmp_path / "x.safetensors")
    files.checkpoint.write_bytes(b"torn")

    with pytest.raises(UsageError, match=r"x.safetensors.checkpoint cannot be continued: it cannot be read"):
        run(folder, files.encoder)

    assert files.checkpoint.exists()


def test_two_do_not_write_one_encoder(folder: Path, tmp_path: Path) -> None:
    files = files_of(tmp_path / "x.safetensors")

    with owned(files), pytest.raises(UsageError, match="is just being pretrained by another process"):
        run(folder, files.encoder)


@pytest.mark.parametrize(
    ("name", "words"),
    [("x.pth", "is a .safetensors file"), ("no/x.safetensors", "there is no folder"), ("d.safetensors", "is a folder")],
)
def test_where_no_encoder_can_be_is_said_before_anything_is_done(tmp_path: Path, name: str, words: str) -> None:
    (tmp_path / "d.safetensors").mkdir()

    with pytest.raises(UsageError, match=words):
        files_of(tmp_path / name)


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB."),
        ProcessEnded("process 2 of 2 ended with code 1: torch.OutOfMemoryError: CUDA out of memory."),
    ],
)
def test_too_little_memory_names_the_option_that_helps(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def full(*_arguments: Any) -> Any:
        raise error

    monkeypatch.setattr("trainables.contrastive.pretraining.train_step", full)

    with pytest.raises(HpoError, match="for 10 images at a time: give --micro-batch 5, with which the loss is still"):
        run(folder, tmp_path / "x.safetensors")

    assert not list(tmp_path.iterdir())
