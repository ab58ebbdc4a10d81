"""What a final model says of images: what it said in its study, whatever kinds of images are among them."""

import csv
import io
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from hpo.models import predict as module
from hpo.models.folder import read_model
from hpo.models.images import named_images
from hpo.models.predict import Prediction, predict
from hpo.paths import StudyPaths
from hpo.spec import RunOptions, trial_config
from tests.finals import PARAMS, turned
from trainables.config import TrainedModel
from trainables.data.datasets import training_images
from trainables.inference.predictor import Predictor, load_predictor, probabilities
from trainables.training.epoch import predict as logits_of
from trainables.training.retraining import load
from trainables.training.trial import open_training_data


def share(one: Prediction) -> float:
    """How likely the first class is."""
    assert one.error is None
    return dict(one.ranking)["china"]


@pytest.fixture(scope="module")
def photo(photographs: list[Path]) -> Image.Image:
    """A picture of neither class for sure, other when it lies on its side."""
    china, flower = (Image.open(path).crop((100, 50, 260, 150)) for path in photographs)
    return Image.blend(china, flower, 0.5)


def test_test_images_are_classified_as_the_study_classified_them(own: StudyPaths, images: Path) -> None:
    rows = list(csv.DictReader((own.final / "test_predictions.csv").read_text("utf-8").splitlines()))

    said = predict(own.final, [images / row["image"] for row in rows])

    assert len(rows) == 4
    assert [one.label for one in said] == [row["predicted"] for row in rows]


def test_probabilities_are_those_of_the_code_and_the_pixels_that_trained(own: StudyPaths) -> None:
    model = read_model(own.final)
    config = trial_config(
        model.spec, RunOptions(trials=1, data_dir=str(own.studies.parent / "data")), PARAMS, 0, 1, None
    )
    trained = TrainedModel(model=model.weights.read_bytes(), accuracy=1.0, is_finite=True)
    examples = open_training_data(config).examples
    logits = logits_of(load(config, trained), examples, np.arange(len(examples.labels)))

    said = predict(model, training_images(model.spec.data).paths or ())

    assert len(said) == 16
    np.testing.assert_allclose([share(one) for one in said], logits.softmax(dim=1)[:, 0], atol=1e-6)


def test_an_image_that_exif_turns_is_the_upright_one(own: StudyPaths, photo: Image.Image, tmp_path: Path) -> None:
    photo.save(tmp_path / "upright.png")
    turned(photo, tmp_path / "turned.png")
    photo.transpose(Image.Transpose.ROTATE_90).save(tmp_path / "lying.png")
    ignoring = shutil.copytree(own.final, tmp_path / "ignoring")
    (ignoring / "preprocessing.json").write_text(
        (own.final / "preprocessing.json").read_text("utf-8").replace('"turn"', '"ignore"'), encoding="utf-8"
    )
    names = [tmp_path / f"{name}.png" for name in ("upright", "turned", "lying")]

    upright, by_exif, lying = (share(one) for one in predict(own.final, names))
    _, ignored, _ = (share(one) for one in predict(ignoring, names))

    assert by_exif == upright
    assert abs(lying - upright) > 1e-3
    assert ignored == lying


def test_grey_transparent_and_paletted_images_are_taken_as_rgb(
    own: StudyPaths, photo: Image.Image, tmp_path: Path
) -> None:
    grey = photo.convert("L")
    deep = Image.fromarray(np.asarray(grey).astype(np.uint16) * 257)
    palette = photo.quantize(64)
    kinds = {"L": grey, "RGBA": photo.convert("RGBA"), "I;16": deep, "P": palette, "1": photo.convert("1")}
    plain = {"L": grey, "RGBA": photo, "I;16": grey, "P": palette, "1": photo.convert("1")}
    for mode, image in kinds.items():
        assert image.mode == mode
        image.save(tmp_path / f"{mode[0]}{len(mode)}.png")

    said = predict(own.final, [tmp_path / f"{mode[0]}{len(mode)}.png" for mode in kinds])
    expected = predict(own.final, [plain[mode].convert("RGB") for mode in kinds])

    assert [share(one) for one in said] == [share(one) for one in expected]


def test_pillows_images_are_taken_from_memory(own: StudyPaths, photo: Image.Image, tmp_path: Path) -> None:
    turned(photo, tmp_path / "turned.png")

    with Image.open(tmp_path / "turned.png") as opened:
        said = predict(own.final, [photo, opened, Image.new("F", (9, 9))])

    assert share(said[0]) == share(said[1])
    assert said[0].image == "0"
    assert "an image in memory cannot be read as an image (mode F" in str(said[2].error)


def test_a_bad_image_is_named_and_stops_nothing(
    own: StudyPaths, photo: Image.Image, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "photos"
    (folder / "deep" / "er").mkdir(parents=True)
    (folder / ".thumbnails").mkdir()
    for name in ("b.png", "deep/er/c.png", ".thumbnails/no.png"):
        photo.save(folder / name)
    (folder / "a.jpg").write_text("no image", encoding="utf-8")
    (folder / "notes.txt").touch()
    (folder / "z.png").symlink_to("gone.png")
    photo.save(tmp_path / "no-suffix", format="png")
    (tmp_path / "empty").mkdir()
    # Each image is a batch of its own, or one of two.
    monkeypatch.setattr(module, "_BATCH", 2)

    asked: list[str | Path] = [tmp_path / "gone.jpg", folder, str(tmp_path / "no-suffix"), tmp_path / "empty"]
    said = predict(own.final, asked)

    names = ("gone.jpg", "photos/a.jpg", "photos/b.png", "photos/deep/er/c.png", "photos/z.png", "no-suffix", "empty")
    assert [one.image for one in said] == [str(tmp_path / name) for name in names]
    good = {share(one) for one in said if one.error is None}
    assert len(good) == 1
    assert [one.image.rpartition("/")[2] for one in said if one.error] == ["gone.jpg", "a.jpg", "z.png", "empty"]
    assert all(one.error is None or one.image in one.error for one in said)
    assert all(one.label is None for one in said if one.error)


def test_a_list_stands_where_its_sign_stands() -> None:
    listed = io.BytesIO(b"b.png\n\nc d.png\r\ncaf\xe9.png")

    assert list(named_images(["a.png", "-", "e.png"], listed)) == [
        "a.png",
        "b.png",
        "c d.png",
        "caf\udce9.png",
        "e.png",
    ]


def test_images_that_do_not_fit_the_memory_together_are_passed_in_parts(own: StudyPaths) -> None:
    model = read_model(own.final)
    whole = load_predictor(model.weights, model.spec.model, model.preprocessing)
    pixels = np.random.default_rng(0).integers(0, 256, (7, 3, 32, 32), np.uint8)

    class Small(nn.Module):
        def __init__(self, most: int) -> None:
            super().__init__()
            self.inner, self.most = whole.model, most

        def forward(self, images: Tensor) -> Tensor:
            if len(images) > self.most:
                raise torch.OutOfMemoryError("CUDA out of memory.")
            logits: Tensor = self.inner(images)
            return logits

    parts = probabilities(Predictor(Small(2), model.preprocessing, whole.device), pixels)

    np.testing.assert_allclose(parts, probabilities(whole, pixels), atol=1e-6)
    with pytest.raises(torch.OutOfMemoryError):
        probabilities(Predictor(Small(0), model.preprocessing, whole.device), pixels)


def test_the_five_likeliest_of_many_classes_are_said() -> None:
    classes = tuple("abcdefg")
    row = np.array([0.1, 0.3, 0.05, 0.05, 0.2, 0.25, 0.05], np.float32)

    ranking = module._ranking(row, classes)

    assert [name for name, _ in ranking] == ["b", "f", "e", "a", "c"]
    assert ranking[0][1] == pytest.approx(0.3)
