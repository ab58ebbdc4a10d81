"""Reports of studies in every condition: whole ones, ones that lack parts, hostile names, and what Chromium shows."""

import html
import io
import itertools
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from selenium.webdriver.common.by import By

import search_spaces
from hpo.final.significance import wilson_interval
from hpo.ledger import studies
from hpo.ledger.ledger import Ledger
from hpo.paths import StudyPaths
from hpo.report import build, page, tables
from hpo.report.outcome_figures import confusion_drawing
from hpo.report.predictions import Predictions
from hpo.report.source import read
from hpo.spec import RunOptions
from hpo.studies.delete import delete
from hpo.views.confusion import Confusions
from tests.browser import MISSING, chromium, programs
from tests.makers import SPACE, epoch, study_spec
from tests.report_browser import SIZES, requests, sorted_by, troubles, undrawn
from trainables.predictions import pack

LEDGERS = Path(__file__).parents[2] / "assets" / "ledgers"
HOSTILE = "<script>alert(1)</script>"
CLASSES = [HOSTILE, "$x_1$ & 猫", "NA"]
LABELS = np.arange(90) % 3


def made(folder: Path, trials: int, name: str = "study", **changes: Any) -> Ledger:
    """A study whose every third trial is COMPLETE, and the others PRUNED after their first epoch."""
    splits = {"train": 270, "validation": 90, "classes": CLASSES, "validation_labels": pack(LABELS)}
    url = f"sqlite:///{folder / 'optuna.db'}"
    ledger = studies.create(url, name, study_spec(**changes), RunOptions(trials=max(trials, 1)), splits)
    for _ in range(trials):
        number = ledger.ask().number
        for one in range(3 if number % 3 == 0 else 1):
            wrong = np.arange(90) < 30 - 2 * number - 3 * one
            predicted = np.where(wrong, (LABELS + 1) % 3, LABELS)
            accuracy = float((~wrong).mean())
            ledger.report(
                number,
                epoch(one + 1, accuracy, val_predictions=pack(predicted)),
                host=f"10.0.0.{number % 2}",
                device="card",
            )
        ledger.finish(number, "COMPLETE" if number % 3 == 0 else "PRUNED")
    return ledger


def with_final(ledger: Ledger, folder: Path, wrong: int = 6) -> None:
    """Give a study a final model that has `wrong` of its 90 test images wrong."""
    predicted = np.where(np.arange(90) < wrong, (LABELS + 1) % 3, LABELS)
    names = np.asarray(CLASSES)
    final = folder / ledger.name / "final"
    final.mkdir(parents=True)
    rows = {"image": [f"{HOSTILE.replace('/', '')}{one}.jpg" for one in range(90)]}
    rows |= {"true": names[LABELS].tolist(), "predicted": names[predicted].tolist()}
    pd.DataFrame(rows).to_csv(final / "test_predictions.csv", index=False)
    ledger.count_test_look()
    ledger.final = {
        "trial": 0,
        "test_accuracy": 1 - wrong / 90,
        "test_accuracy_ci95": list(wilson_interval(90 - wrong, 90)),
        "test_images": 90,
        "seeds": {"test_accuracies": [1 - wrong / 90], "mean": 1 - wrong / 90, "stdev": None},
    }


def reported(folder: Path, *ledgers: Ledger) -> Path:
    sources = [read(ledger, StudyPaths(folder, ledger.name)) for ledger in ledgers]
    return build.report(sources, build.report_folder([one.paths for one in sources]))


def words(page: Path) -> str:
    """The page's text, on one line."""
    text = re.sub(r"<(style|script).*?</\1>|<svg.*?</svg>|<[^>]+>", " ", page.read_text(encoding="utf-8"), flags=re.S)
    return " ".join(html.unescape(text).split())


def figures(page: Path) -> set[str]:
    return {path.stem for path in (page.parent / "figures").glob("*.png")}


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The report of a study that has everything, images aside."""
    folder = tmp_path_factory.mktemp("whole")
    ledger = made(folder, 12)
    with_final(ledger, folder)
    return reported(folder, ledger)


def test_a_whole_report_answers_and_has_its_figures_and_tables(whole: Path) -> None:
    text = words(whole)

    assert figures(whole) == {
        *("history", "curves", "cost", "slices", "importances", "contour", "time", "confusion"),
    }
    tables = {path.stem: pd.read_csv(path) for path in (whole.parent / "tables").glob("*.csv")}
    assert tables.keys() == {"trials", "curves", "importances", "machines", "tied", "classes", "confusions"}
    assert len(tables["trials"]) == 12
    assert len(tables["curves"]) == 4 * 3 + 8
    assert "Its best epoch was 3 of" in text
    assert "0.9333 on 90 held-out test images, after 1 look at test data" in text
    assert "With the configuration that was tried first alone (trial 0," in text
    assert "lie within the validation noise of the best" in text
    for path in (whole.parent / "figures").glob("*.svg"):
        assert path.read_text(encoding="utf-8").count("<svg") == 1
        with Image.open(path.with_suffix(".png")) as image:
            assert image.width > 600


def test_names_are_text_and_the_page_is_alone(whole: Path) -> None:
    text = whole.read_text(encoding="utf-8")

    assert HOSTILE not in text
    assert text.count("<script") == 1
    assert html.escape(HOSTILE) in text
    assert "$x_1$ &amp; 猫" in text
    addresses = re.findall(r"(?:src|href)=\"([^\"]*)", text)
    assert all(one.startswith(("#", "data:")) for one in addresses)
    assert "default-src 'none'" in text


def test_a_study_without_trials_says_so_in_words(tmp_path: Path) -> None:
    made_page = reported(tmp_path, made(tmp_path, 0))

    text = words(made_page)
    assert "hpo resume study continues the study" in text
    assert "No epoch has been trained yet" in text
    assert figures(made_page) == set()


def test_a_running_study_of_one_trial_says_what_is_not_known(tmp_path: Path) -> None:
    space = {**search_spaces.to_dict(SPACE), "enqueue": []}
    ledger = made(tmp_path, 1, sampler="random", asha=False, space=space)
    running = ledger.ask().number
    # As good as the best: it is not named among those that are, since it has not ended.
    good = {"val_predictions": pack(LABELS)}
    ledger.report(running, epoch(1, 0.4, **good), host="10.0.0.1", device="card")

    made_page = reported(tmp_path, ledger)

    text = words(made_page)
    assert "There is no final model yet, and so no held-out test accuracy: hpo retrain study trains one" in text
    assert "The search space names no configuration to try first" in text
    assert "1 trial had not ended when this page was made" in text
    assert "There are no parameter importances" in text
    assert "There is no other trial to compare the best with" in text
    assert "shown is the best trial on validation images" in text
    assert "There are no example images: the images' names are not known." in text
    assert "ASHA was off" in text
    assert "labels kept 100\N{NO-BREAK SPACE}%" in made_page.read_text(encoding="utf-8").replace("</dt><dd>", " ")
    assert {"importances", "contour"}.isdisjoint(figures(made_page))


def test_where_no_trial_completed_the_best_pruned_one_is_named_and_a_failure_is_counted(tmp_path: Path) -> None:
    ledger = made(tmp_path, 0)
    for state, error in (("PRUNED", None), ("FAIL", f"boom {HOSTILE}")):
        number = ledger.ask().number
        ledger.report(number, epoch(1, 0.4), host="10.0.0.1", device="card")
        ledger.finish(number, state, error=error)  # type: ignore[arg-type] # one of Optuna's states

    text = words(reported(tmp_path, ledger))

    assert "No trial ran to its end; this one was stopped early." in text
    assert "1 trial failed" in text
    assert f"boom {HOSTILE}" in text
    assert "Which trials are as good as the best cannot be said" in text


@pytest.mark.parametrize("name", ["finished", "interrupted"])
def test_a_study_of_an_earlier_version_is_reported(tmp_path: Path, name: str) -> None:
    shutil.copytree(LEDGERS / "0.1.0" / "studies", tmp_path / "studies")
    url = f"sqlite:///{tmp_path / 'studies' / 'optuna.db'}"

    made_page = reported(tmp_path / "studies", studies.open_study(url, name))

    text = words(made_page)
    assert {"history", "curves", "time"} <= figures(made_page)
    assert "kept no predictions of its validation images" in text
    assert "Not all of its epochs have times" in text
    assert "Not known: neither a final model's predictions nor those of the best trial are kept" in text
    assert ("on 360 held-out test images" in text) == (name == "finished")


def test_several_studies_stand_side_by_side_and_are_tested_in_pairs(tmp_path: Path) -> None:
    ledgers = [made(tmp_path, trials, name) for name, trials in (("small", 1), ("large", 4), ("untested", 1))]
    with_final(ledgers[0], tmp_path, wrong=20)
    with_final(ledgers[1], tmp_path, wrong=6)

    made_page = reported(tmp_path, *ledgers)

    text = words(made_page)
    assert made_page.parent == tmp_path / "reports" / "large-small-untested"
    assert figures(made_page) == {"accuracy", "costs"}
    assert pd.read_csv(made_page.parent / "tables" / "studies.csv")["study"].tolist() == ["large", "small", "untested"]
    (pair,) = pd.read_csv(made_page.parent / "tables" / "mcnemar.csv").to_dict("records")
    assert (pair["only_first_right"], pair["only_second_right"], pair["verdict"]) == (14, 0, "differ")
    assert "large and untested: untested has no predictions of a final model." in text


def test_a_report_that_cannot_be_written_leaves_the_last_one_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ledger = made(tmp_path, 0)
    made_page = reported(tmp_path, ledger)
    before = {path: path.read_bytes() for path in made_page.parent.rglob("*") if path.is_file()}

    def full(*_: Any) -> str:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(page, "render", full)
    with pytest.raises(OSError, match="No space"):
        reported(tmp_path, ledger)

    assert {path: path.read_bytes() for path in made_page.parent.rglob("*") if path.is_file()} == before


def test_a_deleted_study_takes_its_report_with_it(tmp_path: Path) -> None:
    made_page = reported(tmp_path, made(tmp_path, 0))
    (made_page.parent / ".report-new").mkdir()

    delete(f"sqlite:///{tmp_path / 'optuna.db'}", StudyPaths(tmp_path, "study"))

    assert [path.name for path in tmp_path.iterdir()] == ["optuna.db"]


@pytest.mark.parametrize("classes", [61, 2000])
def test_of_many_classes_the_most_confused_are_drawn_and_all_listed(tmp_path: Path, classes: int) -> None:
    true = np.arange(4000) % classes
    names = tuple(f"{'a very long name ' * 9}{one}" for one in range(classes))
    predicted = np.where(np.arange(4000) % 5 == 0, (true + 1) % classes, true)

    drawing = confusion_drawing(Predictions(Confusions(true, predicted, names), "images", "test", ()))
    table = tables.classes(Confusions(true, predicted, names))

    assert drawing.title == "The most confused pairs"
    with Image.open(io.BytesIO(drawing.png)) as image:
        assert max(image.size) < 2000
    assert len(table.rows) == classes
    # The names differ at their ends, which labels do not reach.
    assert table.columns[0].key == "number"


@pytest.mark.skipif(programs() is None, reason=MISSING)
def test_chromium_shows_every_figure_in_both_sizes_and_schemes_and_sorts_the_table(whole: Path, tmp_path: Path) -> None:
    with chromium(tmp_path / "profile") as driver:
        for width, scheme in itertools.product(SIZES, ("light", "dark")):
            assert troubles(driver, whole, width, scheme) == []
        assert undrawn(driver) == []
        assert len(driver.find_elements(By.CSS_SELECTOR, "figure svg[aria-label]")) == 8
        assert HOSTILE in driver.find_element(By.ID, "confusion").text

        rising, falling = sorted_by(driver, "trials", 3)

        assert rising == sorted(rising)
        assert falling == rising[::-1]
        assert rising[0] < rising[-1]
        assert requests(driver, whole) == {"file", "data"}
        assert driver.get_log("browser") == []  # type: ignore[no-untyped-call]
