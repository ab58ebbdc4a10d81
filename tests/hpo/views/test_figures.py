"""Pictures have bounded sizes, draw names in any script, and cost nothing but themselves when they fail."""

import csv
import shutil
from pathlib import Path

import numpy as np
import pytest
from fontTools.fontBuilder import FontBuilder
from fontTools.pens.ttGlyphPen import TTGlyphPen
from PIL import Image

from hpo.views.figures import draw_confusion
from hpo.views.lettering import labels, lettering


def confuse(classes: list[str], path: Path, images: int = 600) -> None:
    """Draw seeded predictions of which two thirds are right."""
    true = np.arange(images) % len(classes)
    predicted = np.where(np.arange(images) % 3 == 0, (true * 7 + 1) % len(classes), true)
    draw_confusion(true, predicted, classes, "a study\nheld-out test accuracy 0.667", path)


def height_and_width(path: Path) -> tuple[int, int]:
    with Image.open(path) as image:
        return image.height, image.width


@pytest.fixture
def one_font(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine whose fontconfig knows one font, of the letters ꔀ and ꔁ and no others."""
    glyphs = [".notdef", "square", "bar"]
    pens = {name: TTGlyphPen(None) for name in glyphs}
    for name, width in (("square", 800), ("bar", 100)):
        for number, corner in enumerate(((0, 0), (0, 800), (width, 800), (width, 0))):
            (pens[name].lineTo if number else pens[name].moveTo)(corner)
        pens[name].closePath()
    font = FontBuilder(1000, isTTF=True)
    font.setupGlyphOrder(glyphs)
    font.setupCharacterMap({ord("ꔀ"): "square", ord("ꔁ"): "bar"})
    font.setupGlyf({name: pen.glyph() for name, pen in pens.items()})
    font.setupHorizontalMetrics(dict.fromkeys(glyphs, (1000, 0)))
    font.setupHorizontalHeader(ascent=800, descent=-200)
    font.setupNameTable({"familyName": "Two Letters", "styleName": "Regular"})
    font.setupOS2()
    font.setupPost()
    (tmp_path / "fonts").mkdir()
    font.save(tmp_path / "fonts" / "two.ttf")
    config = tmp_path / "fonts.conf"
    config.write_text(f"<fontconfig><dir>{tmp_path}/fonts</dir><cachedir>{tmp_path}/cache</cachedir></fontconfig>")
    monkeypatch.setenv("FONTCONFIG_FILE", str(config))


@pytest.mark.parametrize("classes", [1, 3, 60, 61, 1700, 100_000])
def test_a_confusion_matrix_is_bounded_whatever_the_number_of_classes(tmp_path: Path, classes: int) -> None:
    confuse([f"{number} {'name ' * 40}" for number in range(classes)], tmp_path / "matrix.png")

    assert max(height_and_width(tmp_path / "matrix.png")) < 3500
    assert min(height_and_width(tmp_path / "matrix.png")) > 400
    assert [path.name for path in tmp_path.iterdir()] == ["matrix.png"]


def test_names_that_only_their_ends_tell_apart_are_numbered(tmp_path: Path) -> None:
    confuse(["a" * 200 + "1", "a" * 200 + "2", "b"], tmp_path / "matrix.png")

    with (tmp_path / "matrix_classes.csv").open(encoding="utf-8", newline="") as file:
        assert list(csv.reader(file)) == [["number", "class"], ["0", "a" * 200 + "1"], ["1", "a" * 200 + "2"]]


@pytest.mark.skipif(shutil.which("fc-match") is None, reason="needs fontconfig")
@pytest.mark.usefixtures("one_font")
def test_a_name_in_a_foreign_script_is_drawn_with_a_font_that_has_it(tmp_path: Path) -> None:
    letters = lettering(["ꔀꔁ", "cat", "ꔂ"])

    assert letters.families == ("DejaVu Sans", "Two Letters")
    assert labels(["ꔀꔁ", "cat", "ꔀ ꔂ"], [0, 1, 2], letters, 24).texts == ("ꔀꔁ", "cat", "#2 ꔀ")
    confuse(["ꔀꔁ", "cat"], tmp_path / "drawn.png")
    confuse(["ꔁꔀ", "cat"], tmp_path / "other.png")
    assert height_and_width(tmp_path / "drawn.png") == height_and_width(tmp_path / "other.png")
    assert (tmp_path / "drawn.png").read_bytes() != (tmp_path / "other.png").read_bytes()


@pytest.mark.parametrize(
    "name", ["ꙮ\N{BRAHMI LETTER KA}", "🦮 \N{BRAHMI LETTER KHA}", "caf\udce9 $x^$", "a\nb\t\x00\u202e"]
)
def test_without_a_font_names_are_numbered_and_nothing_is_warned_of(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))

    confuse([name, "dog"], tmp_path / "matrix.png")

    assert (tmp_path / "matrix.png").exists()
    assert (tmp_path / "matrix_classes.csv").read_text(encoding="utf-8").splitlines()[1].startswith(("0,", '0,"'))


def test_a_picture_that_cannot_be_drawn_costs_a_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "matrix.png").mkdir()

    confuse(["cat", "dog"], tmp_path / "matrix.png")

    assert [path.name for path in tmp_path.iterdir()] == ["matrix.png"]
    assert len(caplog.messages) == 1
    assert caplog.messages[0].startswith(f"{tmp_path / 'matrix.png'} was not drawn (")
