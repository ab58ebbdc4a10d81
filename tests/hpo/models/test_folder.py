"""A final folder is read by itself: this version's, earlier ones', and those that are damaged or gone."""

import shutil
from pathlib import Path

import pytest

from hpo.errors import HpoError, UsageError
from hpo.models.folder import is_model, model_of_study, read_model
from hpo.models.predict import predict
from hpo.paths import StudyPaths
from trainables.errors import InputError

FIRST = """
classes = ["china", "flower"]

[config]
learning_rate = 0.003
trial = 0

[study]
name = "study"
backbone = "tests.tiny_backbone:tiny"
weights = "default"
head = "projection"
dataset = "imagefolder:photos"
image_size = 32
augment = "none"
val_fraction = 0.25
label_fraction = 1.0
skipped_images = []
splits_sha256 = "00"
sampler = "tpe"
asha = true
grace_period = 2
reduction_factor = 4.0
precision = "auto"
seed = 3
"""
"""``config.toml`` as hpo 0.1.0 wrote it, without the values of None."""


@pytest.fixture
def copy(own: StudyPaths, tmp_path: Path) -> Path:
    return Path(shutil.copytree(own.final, tmp_path / "final"))


def test_a_folder_and_its_file_are_the_same_model(own: StudyPaths) -> None:
    assert read_model(own.final) == read_model(own.final / "model.safetensors")


def test_a_folder_of_an_earlier_version_has_the_same_preprocessing(own: StudyPaths, copy: Path) -> None:
    (copy / "preprocessing.json").unlink()
    (copy / "README.md").unlink()

    assert read_model(copy).preprocessing == read_model(own.final).preprocessing


def test_a_folder_of_the_first_version_predicts_without_turning(own: StudyPaths, copy: Path, images: Path) -> None:
    (copy / "preprocessing.json").unlink()
    (copy / "config.toml").write_text(FIRST, encoding="utf-8")
    upright = images / "china" / "0.png"

    model = read_model(copy)

    assert model.preprocessing.exif == "ignore"
    assert model.preprocessing.geometry == read_model(own.final).preprocessing.geometry
    assert predict(model, [upright]) == predict(own.final, [upright])


def test_what_is_missing_or_damaged_is_named(copy: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="a model is a study's final folder"):
        read_model(tmp_path)
    (copy / "model.safetensors").write_bytes((copy / "model.safetensors").read_bytes()[:-9])
    with pytest.raises(InputError, match=r"model\.safetensors: the file is missing, damaged or was cut short"):
        predict(copy, [])
    for text in ("[]", "{", '{"exif": "turn", "classes": ["a"]}', '{"exif": "up", "classes": []}'):
        (copy / "preprocessing.json").write_text(text, encoding="utf-8")
        with pytest.raises(InputError, match=r"preprocessing\.json: this is not the preprocessing of a model"):
            read_model(copy)
    (copy / "config.toml").write_text("classes = []", encoding="utf-8")
    with pytest.raises(InputError, match=r"config\.toml: this is no model's configuration \('study'\)"):
        read_model(copy)
    (copy / "config.toml").unlink()
    with pytest.raises(InputError, match="bring the whole final folder"):
        read_model(copy)


def test_values_of_another_network_are_refused(copy: Path, published: StudyPaths) -> None:
    shutil.copy(published.final / "model.safetensors", copy)

    with pytest.raises(InputError, match=r"does not fit a tests\.tiny_backbone:tiny \(Error\(s\) in loading"):
        predict(copy, [])


def test_a_backbone_whose_code_has_changed_is_refused(copy: Path) -> None:
    config = copy / "config.toml"
    text = config.read_text("utf-8").replace("[study.model]", f'[study.model]\ncode_sha256 = "{"0" * 64}"')
    config.write_text(text, encoding="utf-8")

    with pytest.raises(InputError, match=r"the file of tests\.tiny_backbone is not what the study was started with"):
        predict(copy, [])


def test_a_study_without_a_model_says_what_makes_one(own: StudyPaths, tmp_path: Path) -> None:
    url = f"sqlite:///{own.studies / 'optuna.db'}"
    elsewhere = StudyPaths(tmp_path, "study", ("--studies-dir", str(tmp_path)))

    assert model_of_study(own, url) == read_model(own.final)
    with pytest.raises(HpoError, match=r"study study has no final model in .*`hpo retrain study --studies-dir"):
        model_of_study(elsewhere, url)
    with pytest.raises(UsageError, match="there is no study other"):
        model_of_study(StudyPaths(tmp_path, "other"), url)
    shutil.copytree(own.final, elsewhere.final)
    (elsewhere.final / "config.toml").unlink()
    with pytest.raises(HpoError, match=r"bring the whole final folder\. `hpo retrain study"):
        model_of_study(elsewhere, url)


def test_a_path_is_a_model_and_a_name_is_a_study(own: StudyPaths, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(own.folder)

    assert [named for named in ("final", "./x", "a.safetensors", "study", "x.y") if is_model(named)] == [
        *("final", "./x", "a.safetensors"),
    ]
