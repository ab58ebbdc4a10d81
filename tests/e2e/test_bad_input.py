"""A user's mistakes: one line or two, exit code 2, and nothing created."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torchvision.models import get_model

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


def fails(folder: Path, *arguments: str) -> str:
    """Run `hpo` in an empty folder, see it refuse with exit 2 and leave nothing, and return what it said."""
    environment = {**os.environ, "HPO_DATA_DIR": str(folder.parent / "data")}
    before = sorted(folder.iterdir())
    done = subprocess.run(
        [str(HPO), *arguments], cwd=folder, env=environment, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 2, done.stderr
    assert done.stdout == ""
    assert done.stderr.startswith("error: ")
    assert "Traceback" not in done.stderr
    assert sorted(folder.iterdir()) == before
    return done.stderr


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    empty = tmp_path / "here"
    empty.mkdir()
    return empty


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--backbone", "resnet81"), "unknown backbone; did you mean resnet18?"),
        (("--dataset", "digit"), "unknown dataset; did you mean 'digits'?"),
        (("--dataset", "imagefolder:nowhere"), "there is no folder"),
        (("--trials", "0"), "'--trials'"),
        (("--study", "a/b"), "anything printable but slashes"),
        (("--head", "big"), "allowed are projection, linear, paper"),
        (("--timeout", "soon"), "90s, 45m, 8h or 1h30m"),
        (("--weights", "none.pth"), "there is no such file"),
        (("--grace-period", "99"), "longest trial has 50 epochs"),
        (("--val-fraction", "1.5"), "--val-fraction must lie between 0 and 1"),
        (("--checkpoints", "nosuch://bucket"), "--checkpoints nosuch://bucket: Protocol not known: nosuch"),
        (("--cpus-per-trial", "640"), "no machine can hold a trial of 640 CPUs"),
        (("--nonsense",), "No such option"),
    ],
)
def test_a_wrong_option_is_refused(folder: Path, arguments: tuple[str, ...], said: str) -> None:
    assert said in fails(folder, *RUN, *arguments)


def test_an_impossible_range_names_file_and_key(folder: Path) -> None:
    space = folder.parent / "space.toml"
    space.write_text("[parameters]\nlearning_rate = {low = 0.1, high = 0.001}\nepochs = 5\nbatch_size = 8\n", "utf-8")

    message = fails(folder, *RUN, "--space", str(space))

    assert f"{space}: parameters.learning_rate: low <= high must hold, but low=0.1, high=0.001" in message
    assert f"{space}: parameters.freeze_mode: missing" in message


def test_a_class_with_one_image_is_named(folder: Path, photo_folder: Path) -> None:
    for path in sorted((photo_folder / "china").iterdir())[1:]:
        path.unlink()

    assert "class 'china' has 1 image(s)" in fails(folder, *RUN, "--dataset", f"imagefolder:{photo_folder}")


def test_images_that_cannot_be_read_are_named_before_anything_starts(folder: Path, photo_folder: Path) -> None:
    (photo_folder / "china" / "3.jpg").write_bytes(b"no image")
    whole = photo_folder / "flower" / "5.jpg"
    whole.write_bytes(whole.read_bytes()[:3000])

    message = fails(folder, *RUN, "--dataset", f"imagefolder:{photo_folder}")

    # One of both may be in the held-out share, which is looked through when the other one is whole.
    assert "3.jpg cannot be read as an image" in message or "5.jpg cannot be read as an image" in message
    assert "--skip-bad-images leaves such images out" in message


def test_weights_of_another_architecture_are_refused(folder: Path) -> None:
    path = folder.parent / "resnet34.pth"
    torch.save(get_model("resnet34", weights=None).state_dict(), path)

    assert "does not fit the backbone: 96 unexpected" in fails(folder, *RUN, "--weights", str(path))


def test_a_pickle_bomb_is_refused_and_does_not_go_off(folder: Path) -> None:
    class Bomb:
        def __reduce__(self) -> tuple[object, ...]:
            return (os.mkdir, (str(folder.parent / "exploded"),))

    torch.save({"state_dict": Bomb()}, folder.parent / "bomb.pth")

    assert "refused, for reading it would run code" in fails(folder, *RUN, "--weights", str(folder.parent / "bomb.pth"))
    assert not (folder.parent / "exploded").exists()


@pytest.mark.parametrize("command", ["resume", "retrain", "export", "delete", "status"])
def test_a_study_that_is_not_there_is_said(folder: Path, command: str) -> None:
    assert "there are no studies" in fails(folder, command, "ghost")
