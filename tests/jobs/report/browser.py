"""A real browser, and checks of a page in it: nothing is cut off, and the page is accessible."""

from __future__ import annotations

import base64
import json
import os
import re
import shutil
from collections.abc import Iterator
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest
from selenium import webdriver
from selenium.webdriver.chrome.service import Service

FLAGS = (
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
A4_WIDTH = 718  # px at 96 dpi, less the margins
BACKGROUNDS = {"light": "rgb(255, 255, 255)", "dark": "rgb(20, 24, 30)"}


def browsers(profile: Path) -> Iterator[webdriver.Chrome]:
    """One browser, to be used by a fixture. Without one the test is skipped, in CI it fails."""
    driver, chromium = shutil.which("chromedriver"), shutil.which("chromium")
    if not driver or not chromium:
        reason = "chromium and chromedriver are not on PATH; install both to test the page in a browser"
        if os.environ.get("CI"):
            pytest.fail(reason)
        pytest.skip(reason)
    options = webdriver.ChromeOptions()
    options.binary_location = chromium
    for flag in (*FLAGS, f"--user-data-dir={profile}"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    chrome = webdriver.Chrome(options=options, service=Service(driver))
    yield chrome
    chrome.quit()


def show(browser: webdriver.Chrome, page: Path, *, width: int = 1280, scheme: str = "light") -> None:
    """Open the page in a window of this width, with this preferred color scheme."""
    screen = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 500}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", screen)
    features = [{"name": "prefers-color-scheme", "value": scheme}]
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})
    browser.get(page.as_uri())
    background = browser.execute_script("return getComputedStyle(document.body).backgroundColor")
    assert background == BACKGROUNDS[scheme], background


def assert_all_is_shown(browser: webdriver.Chrome, *, width: int, plots: int) -> None:
    """Pictures have pixels, plots are within the window, nothing makes the page wider, the browser logs no error."""
    images = browser.execute_script("return [...document.images].map(image => image.naturalWidth)")
    boxes = browser.execute_script(
        "return [...document.querySelectorAll('svg')].map(svg => svg.getBoundingClientRect().toJSON())"
    )
    wide, window = browser.execute_script("return [document.scrollingElement.scrollWidth, window.innerWidth]")
    assert len(images) > 20, images
    assert min(images) > 0, images
    assert len(boxes) >= plots, len(boxes)
    assert min(min(box["width"], box["height"]) for box in boxes) > 100, boxes
    assert max(box["right"] for box in boxes) <= width, boxes
    assert wide <= window == width, (wide, window)
    complaints = browser.get_log("browser")
    assert complaints == [], complaints


def violations(browser: webdriver.Chrome) -> list[Any]:
    """axe-core's rules on names, roles, order and contrast that the page breaks, with some of the places."""
    # In an isolated world, which the page's own policy against scripts leaves alone.
    frame = browser.execute_cdp_cmd("Page.getFrameTree", {})["frameTree"]["frame"]["id"]
    world = browser.execute_cdp_cmd("Page.createIsolatedWorld", {"frameId": frame})["executionContextId"]
    axe = files("axe_core_python").joinpath("axe.min.js").read_text()
    for script, waits in ((axe, False), ("axe.run().then(found => JSON.stringify(found.violations))", True)):
        result = browser.execute_cdp_cmd(
            "Runtime.evaluate",
            {"expression": script, "contextId": world, "awaitPromise": waits, "returnByValue": waits},
        )
    found = json.loads(result["result"]["value"])
    return [(rule["id"], [node["target"] for node in rule["nodes"]][:3]) for rule in found]


def assert_prints(browser: webdriver.Chrome) -> None:
    """On A4, with nothing cut off at the right: tables and plots, inside their scrolling boxes too."""
    pdf = base64.b64decode(browser.print_page())
    assert pdf.startswith(b"%PDF-")
    assert len(re.findall(rb"/Type\s*/Page\b", pdf)) >= 4
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "print"})
    paper = {"width": A4_WIDTH, "height": 1000, "deviceScaleFactor": 1, "mobile": False}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", paper)
    hidden, wide = browser.execute_script(
        "return [getComputedStyle(document.querySelector('nav')).display,"
        " [...document.querySelectorAll('table, svg')].map(box => [Math.round(box.getBoundingClientRect().right),"
        " box.closest('section').id])]"
    )
    assert hidden == "none", hidden
    cut_off = [box for box in wide if box[0] > A4_WIDTH]
    assert cut_off == [], cut_off
