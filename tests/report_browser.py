"""What tests ask of a report in Chromium: a page in a size and a colour scheme, and whether it can be read."""

import json
from pathlib import Path

from selenium.webdriver import Chrome
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys

CONTRAST = """
const rgb = (text) => (text.match(/[\\d.]+/g) || []).map(Number);
const linear = (v) => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4;
const light = (c) => c.slice(0, 3).map((v) => linear(v / 255))
  .reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
const behind = (element) => {
  for (; element; element = element.parentElement) {
    const c = rgb(getComputedStyle(element).backgroundColor);
    if (c.length && (c.length < 4 || c[3] > 0)) return c;
  }
  return [255, 255, 255];
};
const poor = [];
const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
for (let node = walker.nextNode(); node; node = walker.nextNode()) {
  const element = node.parentElement;
  if (!node.textContent.trim() || element.closest("script, style, [id^=time-number]")) continue;
  const style = getComputedStyle(element);
  const a = light(rgb(element instanceof SVGElement ? style.fill : style.color)), b = light(behind(element));
  const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
  if (ratio < 4.5) poor.push(node.textContent.trim() + ": " + ratio.toFixed(2));
}
return poor;
"""
"""Returns the texts whose contrast with what is behind them is below WCAG AA's 4.5; those on the bars of the Gantt
chart are left out: the bars are not a background of the document's."""

CUT_OFF = """
return [...document.querySelectorAll("figure svg")].flatMap((svg) => {
  const frame = svg.getBoundingClientRect();
  return [...svg.querySelectorAll("text")].filter((text) => {
    const box = text.getBoundingClientRect();
    return box.left < frame.left - 2 || box.right > frame.right + 2 || box.top < frame.top - 2
      || box.bottom > frame.bottom + 2;
  }).map((text) => text.textContent);
});
"""
"""Returns the texts of figures that reach beyond their figure."""


OVERFLOWING = """
const roots = [document.documentElement, ...document.querySelectorAll("body *:not(svg *)")];
return roots.filter((element) => {
  const scrolls = element.closest(".scroll, .wide .canvas");
  return !scrolls && element.clientWidth > 0 && element.scrollWidth > element.clientWidth + 1;
}).map((element) => `${element.tagName}: ${element.textContent.slice(0, 60)}`);
"""
"""Returns the elements, and the page, whose content is wider than they are; tables and wide figures may scroll."""

SQUEEZED = """
return [...document.querySelectorAll("figure svg")].flatMap((svg) => {
  const level = [...svg.querySelectorAll("text")].filter((text) => {
    const matrix = text.getCTM();
    return Math.abs(matrix.b) < 0.01;
  });
  const boxes = level.map((text) => [text.textContent, text.getBoundingClientRect()]);
  const across = (a, b) => Math.min(a.right, b.right) - Math.max(a.left, b.left);
  const down = (a, b) => Math.min(a.bottom, b.bottom) - Math.max(a.top, b.top);
  return boxes.flatMap(([text, a], index) => boxes.slice(index + 1)
    .filter(([, b]) => across(a, b) > 1 && down(a, b) > 3).map(([other]) => `${text} / ${other}`));
});
"""
"""Returns pairs of level texts of a figure that lie over each other."""

SIZES = (1280, 400)
"""Widths of a page, in pixels."""


def troubles(driver: Chrome, page: Path, width: int, scheme: str) -> list[str]:
    """Open a page as wide as `width`, for who prefers ``light`` or ``dark``, and return what cannot be read there."""
    size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": False}
    driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    media = {"features": [{"name": "prefers-color-scheme", "value": scheme}]}
    driver.execute_cdp_cmd("Emulation.setEmulatedMedia", media)
    driver.get(page.as_uri())
    scripts = {"overflows": OVERFLOWING, "has poor contrast": CONTRAST, "is cut off": CUT_OFF, "overlap": SQUEEZED}
    return [f"{one} {what}" for what, script in scripts.items() for one in driver.execute_script(script)]


def undrawn(driver: Chrome) -> list[str]:
    """Return the figures of the open page that show nothing, and pictures that could not be decoded."""
    figures = driver.find_elements(By.TAG_NAME, "figure")
    empty = [
        one.get_attribute("id") or ""
        for one in figures
        if one.size["height"] < 100 or not one.find_elements(By.CSS_SELECTOR, "svg path, svg image")
    ]
    broken = "return [...document.images].filter((one) => !one.naturalWidth).map((one) => one.alt)"
    return [*empty, *driver.execute_script(broken)]


def sorted_by(driver: Chrome, table: str, column: int) -> tuple[list[float], list[float]]:
    """Return a column of numbers of the table in section `table`, sorted by a click, and again by the Enter key."""
    heading = driver.find_element(By.CSS_SELECTOR, f"#{table} th:nth-child({column})")
    values = "return [...document.querySelectorAll(arguments[0])].map((cell) => parseFloat(cell.dataset.value))"
    cells = f"#{table} td:nth-child({column})[data-value]"
    heading.find_element(By.TAG_NAME, "button").click()
    assert heading.get_attribute("aria-sort") == "ascending"
    rising = driver.execute_script(values, cells)
    heading.find_element(By.TAG_NAME, "button").send_keys(Keys.ENTER)
    assert heading.get_attribute("aria-sort") == "descending"
    return rising, driver.execute_script(values, cells)


def requests(driver: Chrome, page: Path) -> set[str]:
    """Return the schemes of all that a page has asked for, such as ``file``; Chromium's own pages do not count."""
    messages = [json.loads(entry["message"])["message"] for entry in driver.get_log("performance")]  # type: ignore[no-untyped-call]
    sent = [one["params"] for one in messages if one["method"] == "Network.requestWillBeSent"]
    return {one["request"]["url"].partition(":")[0] for one in sent if one["documentURL"] == page.as_uri()}
