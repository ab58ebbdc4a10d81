"""A pretraining in two processes: the figures of one, and what is said when one of them ends."""

import multiprocessing
from pathlib import Path

import pytest

from tests import pretraining as small
from trainables.contrastive import together
from trainables.contrastive.config import PretrainEpoch
from trainables.contrastive.pretraining import pretrain
from trainables.contrastive.processes import joined
from trainables.contrastive.together import ProcessEnded, pretrain_together


def test_two_processes_give_the_epochs_of_one(tmp_path: Path) -> None:
    folder = small.write_images(tmp_path / "images")
    config = small.config(folder, epochs=2, learning_rate=1e-3)

    *shared, encoder = pretrain_together(config, small.machine(folder, processes=2))

    *alone, other = pretrain(config, small.machine(folder))
    for one, two in zip(alone, shared, strict=True):
        assert isinstance(one, PretrainEpoch)
        assert isinstance(two, PretrainEpoch)
        assert (two.loss, two.alignment) == pytest.approx((one.loss, one.alignment), rel=1e-3)
    assert type(encoder) is type(other)


def test_a_process_that_ends_early_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = small.write_images(tmp_path / "images")
    monkeypatch.setattr(together, "_follow", follow_badly)

    with pytest.raises(ProcessEnded, match="process 2 of 2 ended with code 7"):
        list(pretrain_together(small.config(folder), small.machine(folder, processes=2)))


def test_another_process_leaves_its_last_words_and_prints_none(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    folder = small.write_images(tmp_path / "images")
    machine = small.machine(folder, processes=2)
    other = multiprocessing.get_context("spawn").Process(
        target=together._follow, args=(1, small.config(folder), machine, tmp_path, b"torn")
    )
    other.start()

    with joined(0, 2, tmp_path / "meeting"):
        other.join(60)

    assert other.exitcode == 1
    assert "CheckpointError: " in (tmp_path / "1.txt").read_text(encoding="utf-8")
    assert "Traceback" not in capfd.readouterr().err


def follow_badly(*_: object) -> None:
    raise SystemExit(7)
