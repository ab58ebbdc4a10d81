"""The page of a measured paper: what it says in each condition, its figures and tables, and what Chromium shows."""

import html
import itertools
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
from PIL import Image
from selenium.webdriver.common.by import By

from hpo.paper.experiment import SOUND, Point, Protocol, load, parse
from hpo.paper.measured import Conditions, StudyOutcome
from hpo.paper.page import write_page
from tests.browser import MISSING, chromium, programs
from tests.hpo.paper.test_experiment import COLUMNS, PUBLISHED, SMALL, TABLE
from tests.measured_papers import as_published, cells
from tests.report_browser import SIZES, requests, sorted_by, troubles, undrawn

PAPER = load()
PETS = Conditions(
    dataset="pets",
    n_classes=37,
    image_size=None,
    weights=dict.fromkeys(PAPER.backbones, "default"),
    machines=("NVIDIA GeForce RTX 3060, 12 GB",),
)
DIGITS = replace(
    PETS,
    dataset="digits",
    n_classes=10,
    image_size=32,
    weights={"resnet18": "none", "vit": "none"},
    machines=("x86-64, 2 CPU cores",),
    command="hpo paper --dataset digits",
)
BEST: dict[str, float | int | str] = {"learning_rate": 3.2e-4, "batch_size": 32, "epochs": 41, "freeze_mode": "none"}
FIGURES = {"table-simclr", *(f"figure-{number}" for number in (3, 4, 5, 6))}
VERDICTS = {f"verdict-{one.id}" for one in PAPER.conclusions}

OUTLINE = r'd="M ([\d.]+) ([\d.]+) \nL [\d.]+ [\d.]+ \nL [\d.]+ ([\d.]+) .*?" (.*?)/>'
"""A rectangle of an SVG file: its left side, its lower and upper one, and its style."""


def words(page: Path) -> str:
    """The page's text, on one line."""
    text = re.sub(r"<(style|script).*?</\1>|<svg.*?</svg>|<[^>]+>", " ", page.read_text(encoding="utf-8"), flags=re.S)
    return " ".join(html.unescape(text).split())


def table(page: Path, name: str) -> pd.DataFrame:
    return pd.read_csv(page.parent / "tables" / f"{name}.csv")


def shifted(by: float) -> Callable[[Point, Protocol], float]:
    accuracy = as_published(PAPER)
    return lambda point, protocol: accuracy(point, protocol) + by


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page of everything: all points by both protocols and two seeds, an ablation, seven studies."""
    images, seeds, published = 1_000, (0, 1), PAPER.protocol
    frozen = [one for one in PAPER.points() if one.backbone == "simclr" and one.freeze_mode == "backbone"]
    made = cells(PAPER.points(), shifted(0.02), images=images, seeds=seeds, spread=0.005)
    made += cells(PAPER.points(), shifted(0), images=images, seeds=seeds, protocol=published)
    for name, value in SOUND:
        gain = 0.3 if name == "frozen_random_layer" else 0.0
        flipped = published.model_copy(update={name: value})
        made += cells(frozen, shifted(gain), images=images, seeds=seeds, protocol=flipped)
    studies = [
        StudyOutcome(
            backbone=name, n_trials=60, right=900 + number, total=images, gpu_seconds=900.0 * (number + 1), params=BEST
        )
        for number, name in enumerate(PAPER.backbones)
    ]
    return write_page(PAPER, made, studies, tmp_path_factory.mktemp("whole"), PETS)


@pytest.fixture(scope="module")
def laptop(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page of two backbones on another dataset, at a small scale, with one seed."""
    experiment = PAPER.scaled(0.04).only(["resnet18", "vit"])
    made = cells(experiment.points(), lambda point, _: 0.9 - 0.2 * (point.freeze_mode == "backbone"), images=360)
    return write_page(experiment, made, [], tmp_path_factory.mktemp("laptop"), DIGITS)


def test_a_whole_page_has_its_figures_and_tables(whole: Path) -> None:
    found = {path.stem for path in (whole.parent / "figures").glob("*.png")}

    assert found == {*FIGURES, *VERDICTS, "studies", "ablation-simclr-backbone-0_0001-64-50"}
    for path in (whole.parent / "figures").glob("*.svg"):
        assert path.read_text(encoding="utf-8").count("<svg") == 1
        with Image.open(path.with_suffix(".png")) as image:
            assert min(image.size) > 300
    assert {path.stem for path in (whole.parent / "tables").glob("*.csv")} == {
        *("bars", "comparisons", "ablation", "studies", "literature", "protocols", "cells"),
    }
    assert len(table(whole, "cells")) == 50 * 2 * 2 + 5 * 2
    assert len(table(whole, "comparisons")) == 41
    assert len(table(whole, "literature")) == 5
    assert "<title>Measured again: Self-Supervised Learning" in whole.read_text(encoding="utf-8")


def test_the_tables_published_accuracies_are_the_papers(laptop: Path, whole: Path) -> None:
    for page in (laptop, whole):
        bars = table(page, "bars")
        for line in PUBLISHED.strip().splitlines():
            backbone, *accuracies = [cell.strip() for cell in line.strip("|").split("|")]
            for (figure, level), accuracy in zip(COLUMNS, accuracies, strict=True):
                is_shown = (bars["figure"] == figure.replace("figure-", "Figure ")) & (bars["backbone"] == backbone)
                (found,) = bars["published"][is_shown & (bars["level"] == str(level))]
                assert found == float(accuracy)
        assert [*bars["published"][bars["figure"] == "Learning rates of SimCLR"]] == [*TABLE]


def test_the_drawn_bars_are_as_high_as_the_published_accuracies(laptop: Path) -> None:
    """Read from the picture: open bars, by their height in that of the axes."""
    for figure, levels in (("figure-3", 2), ("figure-4", 2), ("figure-5", 2), ("figure-6", 3)):
        svg = (laptop.parent / "figures" / f"{figure}.svg").read_text(encoding="utf-8")
        axes = svg[svg.index('id="axes_1"') : svg.index('id="legend_1"')]
        rectangles = re.findall(OUTLINE, axes, re.S)
        (_, bottom, top, _), *bars = rectangles
        unit = float(bottom) - float(top)
        drawn = [
            (float(low) - float(high)) / unit
            for _, low, high, style in bars
            if "clip-path" in style and "fill: none" in style
        ]
        rows = [line.strip("|").split("|")[1:] for line in PUBLISHED.strip().splitlines()]
        first = [name for name, _ in COLUMNS].index(figure)

        assert drawn == pytest.approx([float(cell) for row in rows for cell in row[first : first + levels]], abs=1e-3)


def test_a_whole_page_says_what_was_found(whole: Path) -> None:
    text = words(whole)

    assert "This was measured on" not in text
    assert "All 6 comparisons are confirmed." in text
    assert "1 contradicted (vit)" in text
    assert "better than the best of the paper's grid: simclr" in text.lower()
    assert "vgg 0.85 and 0.88" in text
    assert "the paper's text gives the accuracy alone" in text.lower()
    assert "Chen et al. (2020), A Simple Framework for Contrastive Learning of Visual Representations" in text
    assert "as later papers quote it; original not checked (second hand)" in text
    assert "with one seed" not in text


def test_what_a_switch_costs_is_the_paired_difference(whole: Path) -> None:
    found = table(whole, "ablation").set_index("changed")["gain"].dropna()

    assert found.filter(like="fresh layer").item() == pytest.approx(0.3, abs=0.02)
    assert found.drop(found.filter(like="fresh layer").index).drop("all of them").abs().max() < 0.02
    assert len(found) == 6


def test_a_study_stands_beside_the_grids_best_and_its_time(whole: Path) -> None:
    found = table(whole, "studies").set_index("backbone")

    assert [*found.index] == [*PAPER.backbones]
    # Four runs of 50 epochs of half a minute each, and of SimCLR one more, with six of 20 epochs.
    assert found.loc["vit", "grid_seconds"] == pytest.approx(4 * 50 * 30, rel=0.01)
    assert found.loc["simclr", "grid_seconds"] == pytest.approx((5 * 50 + 6 * 20) * 30, rel=0.01)
    assert found.loc["vit", "cost"] == pytest.approx(0.9, rel=0.01)
    assert found["gain_low"].to_dict()["simclr"] > 0.3
    assert found.loc["vit", "published"] == 0.92


def test_another_dataset_a_small_scale_and_one_seed_are_said(laptop: Path) -> None:
    text = words(laptop)

    assert (
        "This was measured on digits , not on the paper's pets . Published accuracies are shown for reference" in text
    )
    assert "with 0.04 times the published epochs" in text
    assert "Each configuration was trained with one seed." in text
    assert "None of 6 comparisons can be made: not measured." in text
    assert "5 not measured (simclr, resnet50, vgg, inception, swin)" in text
    assert "Not measured are 33 of 43 configurations" in text
    assert "None of it can be compared with what was measured on digits" in text
    assert "hpo paper --dataset digits" in text
    assert not table(laptop, "comparisons")["verdict"].eq("confirmed").all()
    assert len(table(laptop, "cells")) == 10


def test_a_page_of_nothing_measured_says_so(tmp_path: Path) -> None:
    page = write_page(PAPER, [], [], tmp_path, DIGITS)

    assert "Nothing of this figure was measured." in words(page)
    assert not (tmp_path / "tables" / "cells.csv").exists()
    assert table(page, "bars")["published"].notna().all()


def test_an_experiment_of_ones_own_has_a_page(tmp_path: Path) -> None:
    experiment = parse(SMALL, "small")
    made = cells(experiment.points(), lambda point, _: 0.9 - 2 * point.learning_rate, images=200)

    page = write_page(experiment, [*made, *made], [], tmp_path, DIGITS)

    text = words(page)
    assert "All 2 comparisons are confirmed." in text
    assert "No other accuracies are named." in text
    assert len(table(page, "cells")) == 4
    assert table(page, "bars")["published"].isna().sum() == 1


@pytest.mark.slow
@pytest.mark.skipif(programs() is None, reason=MISSING)
def test_chromium_shows_every_figure_in_both_sizes_and_schemes(whole: Path, laptop: Path, tmp_path: Path) -> None:
    with chromium(tmp_path / "profile") as driver:
        for page, (width, scheme) in itertools.product((laptop, whole), itertools.product(SIZES, ("light", "dark"))):
            assert troubles(driver, page, width, scheme) == []
        assert undrawn(driver) == []
        assert len(driver.find_elements(By.CSS_SELECTOR, "figure svg[aria-label]")) == 5 + 5 + 2

        rising, falling = sorted_by(driver, "literature", 2)

        assert rising == sorted(rising)
        assert falling == rising[::-1]
        assert requests(driver, whole) == {"file"}
        assert driver.get_log("browser") == []  # type: ignore[no-untyped-call]


def test_how_many_configurations_have_one_seed_is_said(tmp_path: Path) -> None:
    points = PAPER.points()
    made = cells(points, shifted(0)) + cells(points[:2], shifted(0), seeds=(1, 2))

    page = words(write_page(PAPER, made, [], tmp_path, PETS))

    assert f"of {len(points)}; 1 to 3 seeds" in page
    assert f"{len(points) - 2} of {len(points)} configurations were trained with one seed." in page
    assert "How much accuracies vary by the seed is not known where there is one" in page
    assert PAPER.notes[0] in page
