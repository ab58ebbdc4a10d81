"""`hpo embed` and the commands of docs/embed.md, through the command line."""

import json
import re
import shlex
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from hpo.choices import EmbedSplit
from hpo.cli.embed import _name
from hpo.cli.main import main
from hpo.paths import StudyPaths

DOCS = (Path(__file__).parents[3] / "docs" / "embed.md").read_text(encoding="utf-8")
TINY = "--backbone tests.tiny_backbone:tiny --image-size 16 --precision fp32"

Hpo = Callable[[str], tuple[object, str, str]]


@pytest.fixture
def hpo(
    own: StudyPaths,
    images: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> Hpo:
    """Run `hpo` in this process, in a folder that has the study ``study`` and the images ``holiday``."""
    shutil.copytree(own.studies, tmp_path / "studies")
    shutil.copytree(images / "china", tmp_path / "holiday")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HPO_DATA_DIR", str(tmp_path / "data"))

    def run(line: str) -> tuple[object, str, str]:
        monkeypatch.setattr(sys, "argv", ["hpo", *shlex.split(line)])
        with pytest.raises(SystemExit) as end:
            main()
        said = capsys.readouterr()
        return end.value.code, said.out, said.err

    return run


def test_a_folder_is_written_and_its_files_are_named(hpo: Hpo, tmp_path: Path) -> None:
    code, out, _ = hpo(f"embed {TINY} --images holiday --output mine")

    assert code == 0
    assert re.fullmatch(
        r"10 images, 64 features each; \d pairs? of likely duplicates\nembeddings: mine/embeddings.npy\n"
        r"map: mine/map.html\n",
        out,
    )
    assert np.load(tmp_path / "mine" / "embeddings.npy").shape == (10, 64)


def test_json_says_what_made_them(hpo: Hpo, tmp_path: Path) -> None:
    code, out, _ = hpo("embed study --split test --format parquet --json")

    said = json.loads(out)
    assert (code, said["images"], said["splits"], said["exif"]) == (0, 4, {"test": 4}, "turn")
    assert said["embeddings"] == str(tmp_path / "embeddings-study-test" / "embeddings.parquet")
    assert len(pd.read_parquet(said["embeddings"])) == 4


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("embed", "give either a study or model, or --backbone"),
        ("embed study --backbone resnet18", "give either a study or model, or --backbone"),
        ("embed study --image-size 32", "--image-size is of a --backbone; study has its own"),
        (f"embed {TINY}", "which images?"),
        (f"embed {TINY} --images holiday --split test", "--images is a folder without labels"),
        (f"embed {TINY} --images nowhere", "no such folder"),
        (f"embed {TINY} --images holiday --output studies", "--output studies: is there already"),
        ("embed nobody", "there is no study nobody"),
        ("embed --backbone resnet81 --dataset digits", "did you mean"),
    ],
)
def test_mistakes_are_named_in_a_line_and_leave_nothing(hpo: Hpo, tmp_path: Path, line: str, words: str) -> None:
    before = {path.name for path in tmp_path.iterdir()}

    code, out, err = hpo(line)

    assert (code, out) == (2, "")
    assert words in err
    assert "Traceback" not in err
    assert {path.name for path in tmp_path.iterdir()} - before <= {"data"}


@pytest.mark.parametrize(
    ("network", "dataset", "images", "split", "folder"),
    [
        ("simclr-pets", None, None, None, "embeddings-simclr-pets"),
        ("simclr-pets", None, None, "train", "embeddings-simclr-pets"),
        ("simclr-pets", None, None, "test", "embeddings-simclr-pets-test"),
        ("simclr-pets", None, "trip/holiday", None, "embeddings-simclr-pets-holiday"),
        ("simclr-pets", "cifar10", None, "all", "embeddings-simclr-pets-cifar10-all"),
        ("studies/simclr-pets/final/model.safetensors", None, None, None, "embeddings-simclr-pets"),
        ("small:resnet18", "digits", None, None, "embeddings-small-resnet18-digits"),
        ("simclr", "imagefolder:/data/photos/", None, None, "embeddings-simclr-photos"),
    ],
)
def test_the_usual_folder_says_what_is_in_it(
    network: str, dataset: str | None, images: str | None, split: EmbedSplit | None, folder: str
) -> None:
    assert _name(network, dataset, Path(images) if images else None, split) == folder


def test_the_working_folder_is_called_by_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "holiday").mkdir()
    monkeypatch.chdir(tmp_path / "holiday")

    assert _name("simclr", None, Path(), None) == "embeddings-simclr-holiday"


def test_every_command_of_the_docs_runs(hpo: Hpo, images: Path, tmp_path: Path) -> None:
    commands = re.findall(r"^\$ hpo (.*)$", DOCS, re.MULTILINE)
    (tmp_path / "studies" / "simclr-pets").symlink_to("study")
    small = "--backbone tests.tiny_backbone:tiny --image-size 16"
    assert len(commands) >= 5

    for number, command in enumerate(commands):
        # The published encoder, a pretrained one and whole datasets would take long here.
        scaled = re.sub(r"--backbone \S+( --weights \S+)?", small, command)
        scaled = re.sub(r"--dataset \S+", f"--dataset imagefolder:{images}", re.sub(r" --output \S+", "", scaled))
        code, out, err = hpo(f"{scaled} --output out{number}")
        assert code == 0, err
        assert f"map: out{number}/map.html" in out


def test_the_python_of_the_docs_runs(hpo: Hpo, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (code,) = re.findall(r"```python\n(.*?)```", DOCS, re.DOTALL)
    (tmp_path / "studies" / "simclr-pets").symlink_to("study")

    exec(code, {})

    assert capsys.readouterr().out.splitlines()[0] == "(10, 64) float32"
    assert (tmp_path / "holiday-map" / "map.html").is_file()
