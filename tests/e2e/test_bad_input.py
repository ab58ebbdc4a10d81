"""A user's mistakes: one line or two, exit code 2, and nothing created."""

import os
import subprocess
import sys
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path

import pytest
import torch
from torchvision.models import get_model

from hpo.cli.main import main

HPO = Path(sys.executable).with_name("hpo")
RUN = (
    "run",
    "--backbone",
    "resnet18",
    "--weights",
    "none",
    "--dataset",
    "digits",
    "--image-size",
    "32",
    "--trials",
    "2",
)


Fails = Callable[..., str]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    empty = tmp_path / "here"
    empty.mkdir()
    return empty


@pytest.fixture
def fails(folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Fails:
    """Run `hpo` in an empty folder, see it refuse with exit 2 and leave nothing, and return what it said.

    In this process, since Python's imports take seconds, and without the Ray that is started in the meantime.
    """
    monkeypatch.setattr("hpo.machines.ahead.ray_ahead", lambda *_: nullcontext())
    monkeypatch.chdir(folder)
    monkeypatch.setenv("HPO_DATA_DIR", str(folder.parent / "data"))

    def run(*arguments: str) -> str:
        monkeypatch.setattr(sys, "argv", ["hpo", *arguments])
        before = sorted(folder.iterdir())
        with pytest.raises(SystemExit) as end:
            main()
        said = capsys.readouterr()
        assert_refused(folder, before, end.value.code, said.out, said.err)
        return said.err

    return run


def assert_refused(folder: Path, before: list[Path], code: object, out: str, err: str) -> None:
    assert code == 2, err
    assert out == ""
    assert "\nerror: " in f"\n{err}"
    assert "Traceback" not in err
    assert sorted(folder.iterdir()) == before


@pytest.mark.slow
def test_what_is_refused_after_ray_has_started_leaves_nothing_either(folder: Path) -> None:
    environment = {**os.environ, "HPO_DATA_DIR": str(folder.parent / "data")}

    done = subprocess.run(
        [str(HPO), *RUN, "--cpus-per-trial", "640"],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
    )

    assert_refused(folder, [], done.returncode, done.stdout, done.stderr)
    assert "no machine can hold a trial of 640 CPUs" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--backbone", "resnet81"), "unknown backbone; did you mean resnet18?"),
        (("--dataset", "digit"), "unknown dataset; did you mean 'digits'?"),
        (("--dataset", "imagefolder:nowhere"), "there is no folder"),
        (("--dataset", "imagefolder:"), "names no folder"),
        (("--deduplicate",), "--deduplicate compares files"),
        (("--exif", "rotate"), "'rotate' is not one of 'turn', 'ignore'"),
        (("--trials", "0"), "'--trials'"),
        (("--sampler", "grid"), "parameters.learning_rate: a grid needs choices, or a range with a step"),
        (("--study", "a/b"), "anything printable but slashes"),
        (("--head", "big"), "'big' is not one of 'projection', 'linear', 'paper'"),
        (("--timeout", "soon"), "90s, 45m, 8h or 1h30m"),
        (("--weights", "none.pth"), "there is no such file"),
        (("--grace-period", "99"), "longest trial has 50 epochs"),
        (("--val-fraction", "1.5"), "--val-fraction must lie between 0 and 1"),
        (("--checkpoints", "nosuch://bucket"), "--checkpoints nosuch://bucket: Protocol not known: nosuch"),
        (("--trainable", "finetun"), "unknown trainable; did you mean finetune?"),
        (("--trainable", "mine:train"), "--trainable mine:train: has no search space of its own"),
        (("--trainable", "simclr-pretrain", "--weights", "a.pt"), "--weights a.pt: simclr-pretrain begins with random"),
        (("--trainable", "simclr-pretrain", "--val-fraction", "0.9"), "batch_size of 256, and digits 145 images"),
        (("--trainable", "simclr-pretrain", "--label-fraction", "0.1"), "labels train nothing in simclr-pretrain"),
        (("--nonsense",), "No such option"),
        (("--seed", str(2**63)), "'--seed'"),
    ],
)
def test_a_wrong_option_is_refused(fails: Fails, arguments: tuple[str, ...], said: str) -> None:
    assert said in fails(*RUN, *arguments)


def test_an_impossible_range_names_file_and_key(fails: Fails, folder: Path) -> None:
    space = folder.parent / "space.toml"
    space.write_text("[parameters]\nlearning_rate = {low = 0.1, high = 0.001}\nepochs = 5\nbatch_size = 8\n", "utf-8")

    message = fails(*RUN, "--space", str(space))

    assert f"{space}: parameters.learning_rate: low <= high must hold, but low=0.1, high=0.001" in message
    assert f"{space}: parameters.freeze_mode: missing" in message


def test_a_batch_of_one_is_refused_where_batch_norm_trains(fails: Fails, folder: Path) -> None:
    space = folder.parent / "space.toml"
    space.write_text("[parameters]\nlearning_rate = 1e-3\nepochs = 5\nbatch_size = {low = 1, high = 8}\n", "utf-8")
    space.write_text(space.read_text("utf-8") + 'freeze_mode = "none"\n', "utf-8")

    assert "batch_size = 1 with freeze_mode 'none': batch norm" in fails(*RUN, "--space", str(space))


def test_a_class_with_one_image_is_named(fails: Fails, photo_folder: Path) -> None:
    for path in sorted((photo_folder / "china").iterdir())[1:]:
        path.unlink()

    assert "class 'china' has 1 image(s)" in fails(*RUN, "--dataset", f"imagefolder:{photo_folder}")


def test_images_that_cannot_be_read_are_named_before_anything_starts(fails: Fails, photo_folder: Path) -> None:
    (photo_folder / "china" / "3.jpg").write_bytes(b"no image")
    whole = photo_folder / "flower" / "5.jpg"
    whole.write_bytes(whole.read_bytes()[:3000])

    message = fails(*RUN, "--dataset", f"imagefolder:{photo_folder}")

    # One of both may be in the held-out share, which is looked through when the other one is whole.
    assert "3.jpg cannot be read as an image" in message or "5.jpg cannot be read as an image" in message
    assert "--skip-bad-images leaves such images out" in message


def test_weights_of_another_architecture_are_refused(fails: Fails, folder: Path) -> None:
    path = folder.parent / "resnet34.pth"
    torch.save(get_model("resnet34", weights=None).state_dict(), path)

    assert "does not fit the backbone (the file holds a ResNet-34): 96 unexpected" in fails(
        *RUN, "--weights", str(path)
    )


def test_a_pickle_bomb_is_refused_and_does_not_go_off(fails: Fails, folder: Path) -> None:
    class Bomb:
        def __reduce__(self) -> tuple[object, ...]:
            return (os.mkdir, (str(folder.parent / "exploded"),))

    torch.save({"state_dict": Bomb()}, folder.parent / "bomb.pth")

    assert "holds no state dict" in fails(*RUN, "--weights", str(folder.parent / "bomb.pth"))
    assert not (folder.parent / "exploded").exists()


@pytest.mark.parametrize("command", ["resume", "retrain", "export", "delete", "status"])
def test_a_study_that_is_not_there_is_said(fails: Fails, command: str) -> None:
    assert "there are no studies" in fails(command, "ghost")
