"""The report of a real small run: the bytes, what the page says, and how a real browser shows it."""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from selenium import webdriver
from selenium.webdriver.chrome.service import Service

from jobs.config import load_run_folder
from jobs.report_faces import closest_pairs, real_set, synthetic_set
from jobs.report_page import chain, decimal, duration, points, render
from jobs.stage import Run

FLAGS = (
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
SECTIONS = ["chain", "faces", "similarity", "training", "verification", "scores", "audit", "rejected", "provenance"]


@pytest.fixture
def copied(tiny_run: Any, tmp_path: Path) -> Run:
    """The run folder alone, elsewhere and free to be changed; the faces it was made from are not there."""
    folder = tmp_path / "runs" / "tiny"
    shutil.copytree(tiny_run.folder, folder)
    _edit_config(folder, root=str(tmp_path))
    return load_run_folder(folder)


def _edit_config(folder: Path, **fields: Any) -> None:
    path = folder / "config.yaml"
    config = {**yaml.safe_load(path.read_text()), **fields}
    path.write_text(yaml.safe_dump({name: value for name, value in config.items() if value is not None}))


def _edit_summary(run: Run, stage: str, **figures: Any) -> None:
    path = run.stage_folder(stage).summary
    summary = json.loads(path.read_text())
    summary["figures"] |= figures
    path.write_text(json.dumps(summary))


def _sections(page: str) -> list[str]:
    return re.findall(r'<section id="(\w+)"', page)


def test_the_page_is_a_function_of_the_run_folder_alone(tiny_run: Any, copied: Run) -> None:
    assert render(copied) == (tiny_run.folder / "report" / "index.html").read_bytes()


def test_the_page_refers_to_nothing_outside_itself(copied: Run) -> None:
    page = render(copied).decode()
    assert re.findall(r'(?:src|href)="(?!data:|#)[^"]*"', page) == []
    assert re.findall(r"url\((?!#)", page) == []
    assert "http:" not in page
    assert "https:" not in page
    assert "<script" not in page


def test_the_page_tells_no_folder_of_the_machine(tiny_run: Any, copied: Run) -> None:
    _edit_config(copied.folder.root, shard={**copied.section("shard").model_dump(), "faces": "/home/somebody/photos"})
    page = render(load_run_folder(copied.folder.root)).decode()
    assert "/home/somebody" not in page
    assert "photos" in page
    assert str(copied.root) not in page
    assert str(tiny_run.folder.parent) not in page


def test_a_whole_run_shows_every_section_in_order(copied: Run) -> None:
    page = render(copied).decode()
    assert _sections(page) == SECTIONS
    assert "do not publish" in page


def test_outcomes_add_up_in_every_stage_and_the_broken_photo_is_named(copied: Run) -> None:
    assert all(row["adds_up"] for row in chain(copied))
    page = render(copied).decode()
    assert "the outcomes add up" in page
    assert "person-0/empty.jpg" in page
    assert "30 photos of 5 people" in page


def test_counts_that_do_not_add_up_are_said(copied: Run) -> None:
    path = copied.stage_folder("generate").summary
    path.write_text(json.dumps({**json.loads(path.read_text()), "images_in": 17}))
    assert "does not add up" in render(copied).decode()


def test_stages_that_are_no_part_of_the_run_leave_no_trace(copied: Run) -> None:
    absent = ["train-diffusion", "identities", "generate", "train-recognition", "evaluate", "audit", "publish"]
    _edit_config(copied.folder.root, **dict.fromkeys(absent))
    page = render(load_run_folder(copied.folder.root)).decode()
    assert _sections(page) == ["chain", "faces", "training", "rejected", "provenance"]
    assert not re.search(r">\s*None\b(?!:)", page)


def test_a_stage_without_summary_is_called_unfinished(copied: Run) -> None:
    for stage in ("evaluate", "publish"):
        copied.stage_folder(stage).summary.unlink()
    page = render(copied).decode()
    assert page.count("not finished when this page was made") == 2
    assert not {"verification", "scores"} & set(_sections(page))


def test_a_resumed_training_is_told_with_the_seconds_of_all_its_attempts(copied: Run) -> None:
    _edit_summary(copied, "train-diffusion", resumed_after_images=32)
    path = copied.stage_folder("train-diffusion").summary
    path.write_text(json.dumps(json.loads(path.read_text()) | {"wall_seconds": 128.0}))
    page = render(copied).decode()
    assert "64 training images in about 2.1\N{NO-BREAK SPACE}min" in page
    assert "resumed after 32" in page


def test_text_from_files_cannot_become_markup(copied: Run) -> None:
    line = {"source": "<script>alert(1)</script>.jpg", "outcome": "corrupt", "detail": '"><img src=x onerror=alert(1)>'}
    _edit_summary(copied, "shard", rejected=[line])
    page = render(copied).decode()
    assert "<script>" not in page
    assert "<img src=x" not in page
    assert "&lt;script&gt;" in page


def test_the_worst_pairs_come_first_and_each_synthetic_face_once(copied: Run) -> None:
    synthetic, real = synthetic_set(copied), real_set(copied)
    first, second, third = synthetic.keys[:3]
    leaks = [
        {"key": first, "reason": "too_similar", "real_key": real.keys[0], "cosine": 0.7},
        {"key": second, "reason": "too_similar", "real_key": real.keys[1], "cosine": 0.9},
        {"key": second, "reason": "too_similar", "real_key": real.keys[2], "cosine": 0.8},
        {"key": third, "reason": "near_mirrored", "real_key": real.keys[3], "cosine": None},
    ]
    pairs = closest_pairs(leaks, synthetic=synthetic, real=real)
    assert [pair.caption for pair in pairs] == ["near mirrored", "cosine 0.900", "cosine 0.700"]
    assert pairs[1].real.alt == f"real face {real.keys[1]}"


def test_numbers_are_for_people() -> None:
    shown = [duration(seconds).replace("\N{NO-BREAK SPACE}", " ") for seconds in (0.163, 8.65, 53.9, 522, 10_000)]
    assert shown == ["0.16 s", "8.7 s", "54 s", "8.7 min", "2.8 h"]
    assert decimal(-0.25) == "\N{MINUS SIGN}0.25"
    assert decimal(2529.23, 1) == "2,529.2"
    assert decimal(float("inf")) == "not defined"
    assert points(1.0) == "+1.0"


@pytest.fixture
def browser(tmp_path: Path) -> Iterator[webdriver.Chrome]:
    driver, chromium = shutil.which("chromedriver"), shutil.which("chromium")
    if not driver or not chromium:
        reason = "chromium and chromedriver are not on PATH; install both to see the page as people do"
        if os.environ.get("CI"):
            pytest.fail(reason)
        pytest.skip(reason)
    options = webdriver.ChromeOptions()
    options.binary_location = chromium
    for flag in (*FLAGS, f"--user-data-dir={tmp_path / 'profile'}"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    chrome = webdriver.Chrome(options=options, service=Service(driver))
    yield chrome
    chrome.quit()


@pytest.mark.parametrize("width", [1280, 400])
def test_a_browser_shows_all_of_the_page(tiny_run: Any, browser: webdriver.Chrome, width: int) -> None:
    screen = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 500}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", screen)
    browser.get((tiny_run.folder / "report" / "index.html").as_uri())
    images = browser.execute_script("return [...document.images].map(image => image.naturalWidth)")
    plots = browser.execute_script(
        "return [...document.querySelectorAll('svg')].map(svg => svg.getBoundingClientRect().toJSON())"
    )
    wide, window = browser.execute_script("return [document.scrollingElement.scrollWidth, window.innerWidth]")
    assert len(images) > 20
    assert min(images) > 0
    assert len(plots) >= 9
    assert min(min(plot["width"], plot["height"]) for plot in plots) > 100
    assert max(plot["right"] for plot in plots) <= width
    assert window == width
    assert wide <= window
    assert browser.get_log("browser") == []
