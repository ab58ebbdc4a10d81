"""The page of embeddings: bounded, safe with any name, and what Chromium shows of it."""

import itertools
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from selenium.webdriver import Chrome
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.ui import WebDriverWait

from hpo.embeddings import findings
from hpo.embeddings.files import save_embeddings
from hpo.embeddings.findings import find, shown_rows
from hpo.embeddings.page import make_map, render
from hpo.embeddings.sprite import sprite
from tests.browser import MISSING, chromium, programs
from tests.hpo.embeddings.made import CLASSES, HOSTILE, embeddings
from tests.report_browser import CONTRAST, OVERFLOWING, SIZES, requests, troubles

PAINTED = "return [...pen.getImageData(0, 0, map.width, map.height).data].filter((v, i) => i % 4 === 3 && v).length"
"""Returns how many pixels of the map are not empty."""


def data_of(page: str) -> dict[str, Any]:
    (text,) = re.findall(r'<script type="application/json" id="data">(.*?)</script>', page, re.DOTALL)
    found: dict[str, Any] = json.loads(text)
    return found


def test_names_stay_text(tmp_path: Path) -> None:
    page = save_embeddings(embeddings(), tmp_path / "out").page.read_text("utf-8")

    assert "<script>alert" not in page
    assert "\x07" not in page
    assert data_of(page)["classes"] == list(CLASSES)
    assert page.count("<script") == 2


def test_more_images_than_a_page_shows_are_drawn_from_with_those_that_are_listed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(findings, "SHOWN", 40)
    made = embeddings(300)
    found = find(made.array)

    drawn = make_map(made, found, 1)
    page = render(made, found, drawn)
    data = data_of(page)

    assert len(drawn.rows) == len(data["images"]) == len(data["maps"]["tsne"]) == 40
    assert {0, 1, 299} <= set(drawn.rows.tolist())
    assert "Of 300 images 40 are shown" in page
    assert max(max(row) for row in data["neighbours"]) < 40
    shown = [int(drawn.rows[index]) for index, _ in data["outliers"]]
    assert shown == [row for row, _ in found.outliers[:24]]
    np.testing.assert_array_equal(drawn.rows, shown_rows(found, 1))


def test_two_thousand_noisy_pictures_stay_below_ten_megabytes() -> None:
    pictures = list(np.random.default_rng(0).integers(0, 255, (2000, 3, 80, 80), dtype=np.uint8))

    assert len(sprite(pictures).address) < 9e6


def test_one_image_has_a_page(tmp_path: Path) -> None:
    made = embeddings(1, array=np.ones((1, 16), np.float32))

    page = save_embeddings(made, tmp_path / "out").page.read_text("utf-8")

    assert data_of(page)["neighbours"] == [[]]
    assert "One image alone" in page


def ready(driver: Chrome) -> None:
    wait = WebDriverWait(driver, 10)
    wait.until(lambda one: one.execute_script("return document.documentElement.dataset.ready"))


def names(driver: Chrome) -> list[str]:
    """Return the images whose pictures are in the list of neighbours."""
    return [one.get_attribute("data-image") or "" for one in driver.find_elements(By.CSS_SELECTOR, "#near button")]


@pytest.mark.skipif(programs() is None, reason=MISSING)
def test_chromium_draws_the_map_and_shows_the_neighbours_of_what_is_chosen(tmp_path: Path) -> None:
    page = save_embeddings(embeddings(), tmp_path / "out").page
    data = data_of(page.read_text("utf-8"))
    expected = [[str(other) for other in row] for row in data["neighbours"]]
    with chromium(tmp_path / "profile") as driver:
        for width, scheme in itertools.product(SIZES, ("light", "dark")):
            assert troubles(driver, page, width, scheme) == []
            ready(driver)
            driver.execute_script("choose(0)")
            assert [*driver.execute_script(CONTRAST), *driver.execute_script(OVERFLOWING)] == []
            assert driver.execute_script(PAINTED) > 60 * 20
        assert HOSTILE in driver.find_element(By.ID, "legend").text

        driver.execute_script("choose(-1); map.scrollIntoView()")
        x, y, width, height = driver.execute_script("return [...place(7), map.clientWidth, map.clientHeight]")
        chart = driver.find_element(By.ID, "map")
        across, down = int(x - width / 2), int(y - height / 2)
        ActionChains(driver).move_to_element_with_offset(chart, across, down).click().perform()
        clicked = driver.execute_script("return view.chosen")
        assert names(driver) == expected[clicked]
        assert data["images"][clicked]["name"] in driver.find_element(By.ID, "name").text
        assert driver.find_element(By.ID, "tip").is_displayed()

        chart.send_keys(Keys.ARROW_LEFT)
        assert driver.execute_script("return view.chosen") != clicked
        driver.find_element(By.CSS_SELECTOR, "#near button").send_keys(Keys.ENTER)
        assert names(driver) == expected[driver.execute_script("return view.chosen")]
        driver.find_element(By.CSS_SELECTOR, "#duplicates button").send_keys(Keys.ENTER)
        assert names(driver) == expected[0]
        assert "classes and splits differ" in driver.find_element(By.ID, "duplicates").text

        driver.find_element(By.CSS_SELECTOR, "input[value=pca]").click()
        driver.find_element(By.ID, "pictures").click()
        driver.find_element(By.CSS_SELECTOR, "#legend button").click()
        driver.find_element(By.ID, "nearer").click()
        assert driver.execute_script("return [view.places === data.maps.pca, view.only, view.scale]") == [True, 0, 1.5]
        chart.send_keys(Keys.ESCAPE)
        assert names(driver) == []
        assert requests(driver, page) <= {"file", "data"}
        assert driver.get_log("browser") == []  # type: ignore[no-untyped-call]
