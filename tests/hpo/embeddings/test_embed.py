"""`hpo.embed`: of final models and backbones, datasets and folders, with what each row is of."""

import dataclasses
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

import hpo
from hpo.api.options import Location
from hpo.models.folder import read_model
from hpo.paths import StudyPaths
from trainables.data.datasets import training_images
from trainables.data.splits import split
from trainables.inference.predictor import load_predictor
from trainables.networks.final import load_final

TINY = hpo.Encoder("tests.tiny_backbone:tiny", image_size=16, precision="fp32")


def data_dir(own: StudyPaths) -> str:
    return str(own.studies.parent / "data")


def test_a_study_embeds_its_own_training_images_so_that_its_head_gives_its_predictions(
    own: StudyPaths, images: Path
) -> None:
    # Its data folder is the one that the study had.
    made = hpo.embed("study", location=Location(studies_dir=own.studies))

    model = read_model(own.final)
    head = load_final(model.weights, model.spec.model, 2).model.get_submodule("head").eval()
    predictor = load_predictor(model.weights, model.spec.model, model.preprocessing)
    with torch.inference_mode():
        geometry = model.preprocessing.geometry
        mean, std = (torch.tensor(values).view(-1, 1, 1) for values in (geometry.mean, geometry.std))
        seen = torch.from_numpy(np.stack(made.seen(range(16)))).float() / 255
        expected = predictor.model((seen - mean) / std)
        torch.testing.assert_close(head(torch.from_numpy(np.array(made.array))), expected, rtol=1e-4, atol=1e-4)
    assert (len(made), made.array.shape) == (16, (16, 64))
    assert made.array.dtype == np.float32
    assert (set(made.splits), made.classes) == ({"train"}, ("china", "flower"))
    for row, (name, path) in enumerate(zip(made.ids, made.paths, strict=True)):
        assert name.split("/")[0] == made.class_of(row)
        assert path == images / name
    assert made.about["model"] == str(own.final / "model.safetensors")
    assert not made.array.flags.writeable


def test_the_test_images_are_there_only_when_they_are_named(own: StudyPaths) -> None:
    everything = hpo.embed(own.final, split="all", data_dir=data_dir(own))
    test = hpo.embed(own.final, split="test", data_dir=data_dir(own))

    assert everything.splits == ("train",) * 16 + ("test",) * 4
    assert everything.ids[16:] == test.ids
    np.testing.assert_array_equal(everything.array[16:], test.array)
    np.testing.assert_array_equal(everything.seen([17])[0], test.seen([1])[0])


def test_a_studys_own_dataset_is_divided_as_the_study_did_however_it_is_named(own: StudyPaths, images: Path) -> None:
    again = f"imagefolder:{images / 'china' / '..'}"

    expected = hpo.embed(own.final, split="test", data_dir=data_dir(own))
    named = hpo.embed(own.final, dataset=again, split="test", data_dir=data_dir(own))

    assert named.ids == expected.ids


def test_another_dataset_is_divided_by_the_seed(own: StudyPaths, images: Path, tmp_path: Path) -> None:
    other = f"imagefolder:{shutil.copytree(images, tmp_path / 'other')}"

    of_study, *by_seed = (
        hpo.embed(model, dataset=other, split="test", seed=3, exif="turn", data_dir=str(tmp_path / "data")).ids
        for model in (own.final, TINY)
    )

    assert [of_study] == by_seed


@pytest.mark.parametrize("recorded", ["train_sha256", "splits_sha256"])
def test_images_that_have_changed_since_the_study_are_embedded_with_a_warning(
    own: StudyPaths, images: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture, recorded: str
) -> None:
    folder = shutil.copytree(images, tmp_path / "photos")
    final = shutil.copytree(own.final, tmp_path / "study" / "final")
    data = dataclasses.replace(read_model(final).spec.data, dataset=f"imagefolder:{folder}")
    found = training_images(data)
    digest = {"train_sha256": found.content_sha256, "splits_sha256": split(found, data).fingerprint}[recorded]
    config = (final / "config.toml").read_text(encoding="utf-8")
    before = f'dataset = "imagefolder:{images}"'
    assert config.count(before) == 1
    (final / "config.toml").write_text(
        config.replace(before, f'dataset = "{data.dataset}"\n{recorded} = "{digest}"'), encoding="utf-8"
    )

    same = hpo.embed(final, split="all", data_dir=str(tmp_path / "data"))
    said_of_same = caplog.text
    for index in range(5):
        shutil.copy(folder / "china" / "0.png", folder / "china" / f"new{index}.png")
    changed = hpo.embed(final, split="all", data_dir=str(tmp_path / "data"))

    assert "not those that the study was started with" not in said_of_same
    assert "not those that the study was started with, so its split may be another one" in caplog.text
    assert len(changed) == len(same) + 5


def test_a_folder_needs_no_labels_and_bad_images_are_left_out_when_asked(
    images: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = shutil.copytree(images / "china", tmp_path / "holiday")
    (folder / "bad.png").write_bytes(b"no image")

    with pytest.raises(ValueError, match=r"bad\.png cannot be read.*--skip-bad-images"):
        hpo.embed(TINY, images=folder, data_dir=str(tmp_path / "data"))
    made = hpo.embed(TINY, images=folder, skip_bad_images=True, data_dir=str(tmp_path / "data"))

    assert made.ids == tuple(sorted(path.name for path in (images / "china").iterdir()))
    assert (made.classes, made.class_of(0), set(made.splits)) == ((), None, {""})
    assert "bad.png cannot be read" in caplog.text


def test_a_backbone_has_the_same_embedding_of_an_image_wherever_it_lies(images: Path, tmp_path: Path) -> None:
    given = {"data_dir": str(tmp_path), "exif": "turn"}

    dataset = hpo.embed(TINY, dataset=f"imagefolder:{images}", split="all", **given)  # type: ignore[arg-type]
    folder = hpo.embed(TINY, images=images, **given)  # type: ignore[arg-type]

    rows = [folder.ids.index(name) for name in dataset.ids]
    np.testing.assert_allclose(folder.array[rows], dataset.array, rtol=1e-5, atol=1e-5)


def test_what_does_not_go_together_is_refused(own: StudyPaths, images: Path, tmp_path: Path) -> None:
    with pytest.raises(hpo.UsageError, match="which images"):
        hpo.embed(TINY)
    with pytest.raises(hpo.UsageError, match="without labels"):
        hpo.embed(TINY, images=images, dataset="digits")
    with pytest.raises(ValueError, match="no such folder"):
        hpo.embed(TINY, images=tmp_path / "none")
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match="holds no images"):
        hpo.embed(TINY, images=tmp_path / "empty")


def test_features_that_are_no_numbers_are_refused(
    own: StudyPaths, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from safetensors.torch import load_file, save_file

    broken = shutil.copytree(own.final, tmp_path / "final")
    state = load_file(broken / "model.safetensors")
    save_file(
        {name: value * float("nan") if value.is_floating_point() else value for name, value in state.items()},
        broken / "model.safetensors",
    )

    with pytest.raises(hpo.HpoError, match="no numbers"):
        hpo.embed(broken, data_dir=data_dir(own))
