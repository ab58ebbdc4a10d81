"""Other formats give what the model gives, on batches of any size; a file that does not is not left."""

import importlib.util
import json
import shutil
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch

from hpo.errors import HpoError
from hpo.models import export as module
from hpo.models.export import export_model
from hpo.models.folder import FinalModel, read_model
from hpo.models.predict import predict
from hpo.paths import StudyPaths
from tests.finals import final_study
from trainables.config import ModelFormat
from trainables.data.decoding import decode
from trainables.data.transforms import normalise, shrink
from trainables.errors import InputError
from trainables.inference.exporting import SUFFIXES


def normalised(model: FinalModel, files: list[Path]) -> torch.Tensor:
    geometry = model.preprocessing.geometry
    pixels = np.stack([shrink(decode(file, model.preprocessing.exif), geometry) for file in files])
    return normalise(torch.from_numpy(pixels), geometry)


@pytest.mark.parametrize("count", [1, 5])
def test_onnx_runs_in_onnxruntime_and_carries_its_preprocessing(
    own: StudyPaths, images: Path, onnx_file: Path, count: int
) -> None:
    model = read_model(own.final)
    files = sorted(images.rglob("*.png"))[8 : 8 + count]

    session = onnxruntime.InferenceSession(onnx_file, providers=["CPUExecutionProvider"])
    (logits,) = session.run(["logits"], {"images": normalised(model, files).numpy()})

    shares = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    for row, said in zip(shares, predict(model, files), strict=True):
        assert dict(zip(model.preprocessing.classes, row, strict=True)) == pytest.approx(dict(said.ranking), abs=1e-5)
    carried = session.get_modelmeta().custom_metadata_map["preprocessing.json"]
    assert json.loads(carried) == json.loads((own.final / "preprocessing.json").read_text("utf-8"))


@pytest.fixture(scope="module")
def onnx_file(own: StudyPaths, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("onnx") / "a model.onnx"
    made = export_model(read_model(own.final), "onnx", path)
    assert (made.path, made.images) == (path, 16)
    assert made.difference < 1e-5
    assert [file.name for file in path.parent.iterdir()] == ["a model.onnx"]
    return path


@pytest.mark.parametrize("form", ["torchscript", "torch-export"])
def test_torchs_formats_are_left_beside_the_model(own: StudyPaths, tmp_path: Path, form: ModelFormat) -> None:
    final = Path(shutil.copytree(own.final, tmp_path / "final"))

    made = export_model(read_model(final), form)

    assert made.path == final / f"model{SUFFIXES[form]}"
    assert made.difference < 1e-5
    assert not list(final.glob(".partial*"))
    carried = {"preprocessing.json": ""}
    if form == "torchscript":
        with pytest.warns(FutureWarning, match="deprecated"):
            torch.jit.load(made.path, _extra_files=carried)  # type: ignore[no-untyped-call]
    else:
        torch.export.load(made.path, extra_files=carried)
    text = carried["preprocessing.json"]
    assert json.loads(text)["classes"] == ["china", "flower"]


@pytest.fixture(scope="module")
def odd(tmp_path_factory: pytest.TempPathFactory, images: Path) -> FinalModel:
    return read_model(final_study(tmp_path_factory.mktemp("odd"), images, backbone="tests.odd_backbones:looking").final)


def test_a_file_that_differs_is_not_left(odd: FinalModel) -> None:
    before = sorted(odd.weights.parent.iterdir())

    with pytest.raises(
        HpoError, match=r"--model torchscript: the file's probabilities differ from the model's by up to"
    ):
        export_model(odd, "torchscript")

    assert sorted(odd.weights.parent.iterdir()) == before


def test_a_network_that_cannot_be_followed_is_refused_in_a_line(odd: FinalModel) -> None:
    before = sorted(odd.weights.parent.iterdir())

    with pytest.raises(InputError, match="--model torch-export: this network cannot be written so") as refused:
        export_model(odd, "torch-export")

    assert "\n" not in str(refused.value)
    assert sorted(odd.weights.parent.iterdir()) == before


def test_packages_that_are_missing_are_named_before_anything_is_read(
    own: StudyPaths, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name in ("onnx", "onnxruntime") else object())
    monkeypatch.setattr(module, "_images", None)

    with pytest.raises(InputError, match=r"--model onnx needs onnx, onnxruntime; `pip install -e '\.\[onnx\]'`"):
        export_model(read_model(own.final), "onnx")


def test_images_that_are_gone_are_named(own: StudyPaths, tmp_path: Path) -> None:
    final = Path(shutil.copytree(own.final, tmp_path / "final"))
    config = (final / "config.toml").read_text("utf-8")
    (final / "config.toml").write_text(config.replace("imagefolder:", "imagefolder:/gone"), encoding="utf-8")

    with pytest.raises(InputError, match=r"--dataset imagefolder:/gone.*there is no folder"):
        export_model(read_model(final), "torch-export")

    assert not (final / "model.pt2").exists()


def test_a_place_that_cannot_be_written_is_named(own: StudyPaths, tmp_path: Path) -> None:
    with pytest.raises(HpoError, match=r"gone/x\.pt: cannot be written \(there is no folder"):
        export_model(read_model(own.final), "torchscript", tmp_path / "gone" / "x.pt")
