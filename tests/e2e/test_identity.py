"""A study that is resumed or retrained with other weights, images or code says so before it trains anything."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import ExifTags, Image
from safetensors.torch import save_file

from hpo.ledger.studies import open_study
from tests.e2e.shell import ROOT, Shell
from tests.tiny_backbone import tiny

SPACE = """
[parameters]
learning_rate = 1e-3
batch_size = 8
epochs = 1
freeze_mode = "none"
"""


@pytest.fixture(scope="module")
def shell(tmp_path_factory: pytest.TempPathFactory, photographs: list[Path]) -> Shell:
    """A study of one trial: of a backbone of the user's own, with a weights file, on a folder of images."""
    shell = Shell(tmp_path_factory.mktemp("identity"), SPACE)
    folder = shell.folder
    shell.environment["PYTHONPATH"] = f"{ROOT}:{folder}"
    shutil.copy(ROOT / "tests" / "tiny_backbone.py", folder / "own_backbone.py")
    save_file(tiny().state_dict(), folder / "weights.safetensors")
    for path in photographs:
        (folder / "photos" / path.stem).mkdir(parents=True)
        for number in range(5):
            shutil.copy(path, folder / "photos" / path.stem / f"{number}.jpg")
    shell.hpo(
        *("run", "--backbone", "own_backbone:tiny", "--weights", "weights.safetensors", "--study", "tiny"),
        *("--dataset", "imagefolder:photos", "--image-size", "32", "--space", "space.toml", "--trials", "1"),
        "--no-retrain",
    )
    return shell


def other_weights(folder: Path) -> None:
    state = {name: value + 1 if value.is_floating_point() else value for name, value in tiny().state_dict().items()}
    save_file(state, folder / "weights.safetensors")


def no_weights(folder: Path) -> None:
    (folder / "weights.safetensors").unlink()


def another_image(folder: Path) -> None:
    with (folder / "photos" / "china" / "1.jpg").open("ab") as file:
        file.write(b"0")


def no_images(folder: Path) -> None:
    shutil.rmtree(folder / "photos")


def edited_code(folder: Path) -> None:
    with (folder / "own_backbone.py").open("a", encoding="utf-8") as file:
        file.write("# edited\n")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (other_weights, "weights.safetensors: the file is not the one that the study was started with"),
        pytest.param(no_weights, "weights.safetensors: there is no such file", marks=pytest.mark.slow),
        (another_image, "split are not those that the study was started with"),
        pytest.param(no_images, "there is no folder", marks=pytest.mark.slow),
        pytest.param(
            edited_code, "the file of own_backbone is not what the study was started with", marks=pytest.mark.slow
        ),
    ],
)
def test_what_has_changed_is_named_and_nothing_is_trained(
    shell: Shell, tmp_path: Path, change: Callable[[Path], None], said: str
) -> None:
    kept = ("weights.safetensors", "photos", "own_backbone.py")
    for name in kept:
        copy = shutil.copytree if (shell.folder / name).is_dir() else shutil.copy2
        copy(shell.folder / name, tmp_path / name)
    change(shell.folder)

    _, resumed = shell.hpo("resume", "tiny", "--trials", "2", code=2)

    for name in kept:
        shutil.rmtree(shell.folder / name, ignore_errors=True)
        (shell.folder / name).unlink(missing_ok=True)
        copy = shutil.copytree if (tmp_path / name).is_dir() else shutil.copy2
        copy(tmp_path / name, shell.folder / name)
    assert said in resumed
    ledger = open_study(shell.url, "tiny")
    assert (ledger.n_trials, ledger.run_options.trials, ledger.test_looks) == (1, 1, 0)


@pytest.mark.slow
def test_what_has_changed_is_not_retrained_and_what_was_restored_is_resumed(shell: Shell) -> None:
    code = (shell.folder / "own_backbone.py").read_bytes()
    edited_code(shell.folder)

    _, retrained = shell.hpo("retrain", "tiny", code=2)

    assert "is not what the study was started with" in retrained
    (shell.folder / "own_backbone.py").write_bytes(code)
    shell.hpo("resume", "tiny", "--trials", "2")

    assert open_study(shell.url, "tiny").n_trials == 2


@pytest.mark.slow
def test_a_study_keeps_how_its_folder_was_read(tmp_path: Path, photographs: list[Path]) -> None:
    """Given validation, images on their side, a name that is not UTF-8, a copy: the same in its trials and retrain."""
    shell = Shell(tmp_path, SPACE)
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6
    for part, numbers in (("Training", 4), ("valid", 3), ("TEST", 2)):
        for path in photographs:
            (tmp_path / "photos" / "photos" / part / path.stem).mkdir(parents=True)
            for number in range(numbers):
                left = 50 * number + len(part)
                image = Image.open(path).crop((left, 0, left + 200, 100))
                image.save(tmp_path / "photos" / "photos" / part / path.stem / f"{number}.jpg", exif=exif)
    training = tmp_path / "photos" / "photos" / "Training" / "china"
    (training / "0.jpg").rename(training / os.fsdecode(b"gar\xe7on.jpg"))
    shutil.copy(tmp_path / "photos" / "photos" / "TEST" / "china" / "1.jpg", training / "copy.jpg")
    asked = (
        *("run", "--backbone", "tests.tiny_backbone:tiny", "--study", "tiny", "--dataset", "imagefolder:photos"),
        *("--image-size", "32", "--space", "space.toml", "--deduplicate"),
    )

    _, err = shell.hpo(*asked, "--trials", "1")
    shell.hpo("resume", "tiny", "--trials", "2", "--json")
    stores = list((tmp_path / "data" / "stores" / "images").glob("*.npy"))
    _, other = shell.hpo(*asked[:-1], "--exif", "ignore", "--trials", "3", code=2)

    ledger = open_study(shell.url, "tiny")
    assert "2 classes; 8 images to train on, 6 to validate with (folder valid), 4 to test with (folder TEST)" in err
    assert "left out: 1 unreadable images or copies" in err
    assert ledger.spec.data.exif == "turn"
    assert (ledger.splits["train"], ledger.splits["validation"], ledger.splits["validation_is_given"]) == (8, 6, True)
    assert ledger.final is not None
    assert ledger.final["test_images"] == 4
    listing = (tmp_path / "studies" / "tiny" / "splits.csv").read_text(encoding="utf-8")
    assert "train,Training/china/gar\\xe7on.jpg,china" in listing
    assert len(stores) == 2
    assert "data.exif: the study has turn, this run asks for ignore" in other
    assert "data.deduplicate: the study has True, this run asks for False" in other
