"""`hpo predict` and `hpo export --model`, and the commands of docs/predict.md, through the command line."""

import csv
import io
import json
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from hpo.cli.main import main
from hpo.paths import StudyPaths

DOCS = (Path(__file__).parents[3] / "docs" / "predict.md").read_text(encoding="utf-8")


@dataclass(frozen=True)
class Said:
    code: object
    out: str
    err: str


Hpo = Callable[..., Said]


@pytest.fixture
def hpo(
    own: StudyPaths,
    images: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> Hpo:
    """Run `hpo` in this process, in a folder that has the study ``study``, ``cat.jpg`` and ``holiday``."""
    shutil.copytree(own.studies, tmp_path / "studies")
    shutil.copytree(images / "china", tmp_path / "holiday")
    shutil.copy(images / "flower" / "0.png", tmp_path / "cat.jpg")
    monkeypatch.chdir(tmp_path)

    def run(*arguments: str, stdin: bytes = b"") -> Said:
        monkeypatch.setattr(sys, "argv", ["hpo", *arguments])
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(stdin)))
        with pytest.raises(SystemExit) as end:
            main()
        said = capsys.readouterr()
        # pytest takes what is logged.
        return Said(end.value.code, said.out, caplog.text + said.err)

    return run


def test_a_bad_image_is_named_the_rest_is_classified_and_the_exit_code_says_so(hpo: Hpo, tmp_path: Path) -> None:
    (tmp_path / "holiday" / "bad.jpg").write_text("no image", encoding="utf-8")

    said = hpo("predict", "study", "holiday", "cat.jpg", "--format", "json")

    lines = [json.loads(line) for line in said.out.splitlines()]
    assert said.code == 1
    assert [line["image"] for line in lines if "error" in line] == ["holiday/bad.jpg"]
    assert (len(lines), lines[-1]["image"]) == (12, "cat.jpg")
    assert "holiday/bad.jpg cannot be read as an image (of no known format)" in said.err
    assert "error: 1 of 12 images could not be read; the others were classified." in said.err
    assert "Traceback" not in said.err


def test_a_list_on_stdin_is_read_where_the_dash_stands(hpo: Hpo) -> None:
    said = hpo(
        "predict", "studies/study/final", "-", "cat.jpg", "--format", "csv", stdin=b"holiday/2.png\nholiday/1.png\n"
    )

    rows = list(csv.DictReader(io.StringIO(said.out)))
    assert said.code == 0
    assert [row["image"] for row in rows] == ["holiday/2.png", "holiday/1.png", "cat.jpg"]
    assert all(0.5 <= float(row["probability"]) <= 1 for row in rows)


def test_what_is_no_study_or_model_is_refused_in_a_line(hpo: Hpo) -> None:
    unknown, nothing = hpo("predict", "other", "cat.jpg"), hpo("predict", "./holiday", "cat.jpg")
    both = hpo("export", "study", "--model", "onnx", "--top", "2")

    assert (unknown.code, nothing.code, both.code) == (2, 2, 2)
    assert "there is no study other" in unknown.err
    assert "a model is a study's final folder" in nothing.err
    assert "--format and --top are of configurations" in both.err


def test_a_models_file_is_written_and_how_exact_it_is_is_said(hpo: Hpo, tmp_path: Path) -> None:
    said = hpo("export", "study", "--model", "torchscript")

    assert said.code == 0
    assert re.fullmatch(
        r"studies/study/final/model\.pt: probabilities differ from the model's by at most [\d.e-]+ on 16 .*\n", said.out
    )
    assert (tmp_path / "studies" / "study" / "final" / "model.pt").stat().st_size > 10_000


def test_every_command_of_the_docs_runs(hpo: Hpo, tmp_path: Path) -> None:
    commands = [
        line[2:] for block in re.findall(r"```console\n(.*?)```", DOCS, re.DOTALL) for line in block.splitlines()
    ]
    (tmp_path / "studies" / "simclr-pets").symlink_to("study")
    assert len(commands) >= 5

    for command in commands:
        if "--model onnx" in command:
            continue  # The README's command, which its own test runs.
        listing, _, rest = command.rpartition(" | ")
        listed = subprocess.run(shlex.split(listing), capture_output=True, check=True).stdout if listing else b""
        words = shlex.split(rest.partition(" > ")[0])
        if words[1] == "export":
            # The others' names are of the ledger, which calls it "study".
            words[2] = "study"
        said = hpo(*words[1:], stdin=listed)
        assert (said.code, words[0]) == (0, "hpo"), said.err
        assert said.out


def test_the_python_of_the_docs_runs(hpo: Hpo, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (code,) = re.findall(r"```python\n(.*?)```", DOCS, re.DOTALL)
    (tmp_path / "studies" / "simclr-pets").symlink_to("study")

    exec(code, {})

    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 11
    assert lines[0].startswith("cat.jpg flower (('flower', ")
