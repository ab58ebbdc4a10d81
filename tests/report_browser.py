"""What tests ask of a report in Chromium: a page in a size and a colour scheme, and whether it can be read."""

import json
from pathlib import Path
from typing import Any

from selenium.webdriver import Chrome

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


def show(driver: Chrome, page: Path, width: int, scheme: str) -> None:
    """Open a page as wide as `width` pixels, to a reader who prefers the colour scheme ``light`` or ``dark``."""
    size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": False}
    driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    media = {"features": [{"name": "prefers-color-scheme", "value": scheme}]}
    driver.execute_cdp_cmd("Emulation.setEmulatedMedia", media)
    driver.get(page.as_uri())


def picture(driver: Chrome) -> dict[str, Any]:
    """Return the whole page as a PNG, in base64 under ``data``."""
    found: dict[str, Any] = driver.execute_cdp_cmd(
        "Page.captureScreenshot", {"format": "png", "captureBeyondViewport": True}
    )
    return found


def requests(driver: Chrome, page: Path) -> set[str]:
    """Return the schemes of all that a page has asked for, such as ``file``; Chromium's own pages do not count."""
    messages = [json.loads(entry["message"])["message"] for entry in driver.get_log("performance")]  # type: ignore[no-untyped-call]
    sent = [one["params"] for one in messages if one["method"] == "Network.requestWillBeSent"]
    return {one["request"]["url"].partition(":")[0] for one in sent if one["documentURL"] == page.as_uri()}
