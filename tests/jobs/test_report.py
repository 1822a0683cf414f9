"""The report of a real small run: the bytes, what the page says, and how a real browser shows it."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from selenium import webdriver
from selenium.webdriver.common.keys import Keys

from jobs.frame.experiment import load_run_folder
from jobs.frame.run import Run
from jobs.report.chain import chain
from jobs.report.faces import pair
from jobs.report.page import PAGE, PARTS, RESULTS, decimal, duration, percent, points, render, size
from jobs.report.part import Sets, held_out_set, real_set, synthetic_set
from jobs.report.published import own_accuracies
from shards.privacy.leaks import Leak, Reason, worst_leaks

from .browser import assert_all_is_shown, assert_prints, browsers, show, violations
from .commands import Project
from .one_rank import copied_run, edit_config
from .test_studies import STUDIES

LACKING = ("benchmarks", "calibration", "studies")  # which the tiny run does not ask for
SECTIONS = [part.name for part in PARTS if part.name not in LACKING]


@pytest.fixture
def copied(tiny_run: Any, tmp_path: Path) -> Run:
    """The run folder alone: the faces it was made from are not there."""
    return copied_run(tiny_run, tmp_path, faces=False)


def _edit_summary(run: Run, stage: str, **figures: Any) -> None:
    path = run.stage_folder(stage).summary
    summary = json.loads(path.read_text())
    summary["figures"] |= figures
    path.write_text(json.dumps(summary))


def _sections(page: str) -> list[str]:
    return re.findall(r'<section id="(\w+)"', page)


def test_the_page_is_a_function_of_the_run_folder_alone(tiny_run: Any, copied: Run) -> None:
    assert render(copied) == {name: (tiny_run.folder / "report" / name).read_bytes() for name in (PAGE, RESULTS)}


def test_the_figures_are_markdown_tables_too(tiny_run: Any) -> None:
    text = (tiny_run.folder / "report" / RESULTS).read_text()
    evaluated = json.loads((tiny_run.folder / "evaluate" / "summary.json").read_text())["figures"]
    scored = evaluated["scores"]["synthetic"]
    assert f"| {decimal(scored['mated_mean'])} +- {decimal(scored['mated_std'])} |" in text
    for figures in evaluated["verification"].values():
        assert percent(figures["accuracy"]).replace("\N{NO-BREAK SPACE}", " ") in text
    for stage in ("shard", "embed", "train-diffusion", "generate"):
        assert f"\n| {stage} | " in text
    tables = [block.strip().splitlines() for block in re.findall(r"(?:^\|.*\|\n)+", text, flags=re.MULTILINE)]
    assert len(tables) >= 5
    for lines in tables:
        assert len({line.count("|") for line in lines}) == 1, lines[0]
        assert set(lines[1]) == set("| -")
        assert len(lines) > 2, lines[0]


def test_the_page_refers_to_nothing_outside_itself(copied: Run) -> None:
    page = render(copied)[PAGE].decode()
    assert re.findall(r'(?:src|href)="(?!data:|#)[^"]*"', page) == []
    assert re.findall(r"url\((?!#)", page) == []
    assert "http:" not in page
    assert "https:" not in page
    assert "<script" not in page


def test_the_page_tells_no_folder_of_the_machine(tiny_run: Any, copied: Run) -> None:
    edit_config(copied.folder.root, shard={**copied.section("shard").model_dump(), "faces": "/home/somebody/photos"})
    page = render(load_run_folder(copied.folder.root))[PAGE].decode()
    assert "/home/somebody" not in page
    assert "photos" in page
    assert str(copied.root) not in page
    assert str(tiny_run.folder.parent) not in page


def test_a_whole_run_shows_every_section_in_order(copied: Run) -> None:
    page = render(copied)[PAGE].decode()
    assert _sections(page) == SECTIONS
    assert "do not publish" in page


def test_outcomes_add_up_in_every_stage_and_the_broken_photo_is_named(copied: Run) -> None:
    assert all(row["adds_up"] for row in chain(copied, Sets.of(copied))["chain"])
    page = render(copied)[PAGE].decode()
    assert "the outcomes add up" in page
    assert "person-0/empty.jpg" in page
    assert "30 photos of 5 people" in page


def test_counts_that_do_not_add_up_are_said(copied: Run) -> None:
    path = copied.stage_folder("generate").summary
    path.write_text(json.dumps({**json.loads(path.read_text()), "images_in": 17}))
    assert "does not add up" in render(copied)[PAGE].decode()


def test_stages_that_are_no_part_of_the_run_leave_no_trace(copied: Run) -> None:
    absent = [
        "fingerprint",
        "train-diffusion",
        "identities",
        "generate",
        "train-recognition",
        "evaluate",
        "audit",
        "settle",
        "publish",
    ]
    edit_config(copied.folder.root, **dict.fromkeys(absent))
    page = render(load_run_folder(copied.folder.root))[PAGE].decode()
    assert _sections(page) == ["chain", "faces", "training", "costs", "rejected", "provenance"]
    assert not re.search(r">\s*None\b(?!:)", page)


def test_a_stage_without_summary_is_called_unfinished(copied: Run) -> None:
    for stage in ("evaluate", "publish"):
        copied.stage_folder(stage).summary.unlink()
    page = render(copied)[PAGE].decode()
    assert page.count("not finished when this page was made") == 2
    assert not {"verification", "scores", "published"} & set(_sections(page))


def test_a_resumed_training_is_told_with_the_seconds_of_all_its_attempts(copied: Run) -> None:
    _edit_summary(copied, "train-diffusion", resumed_after_images=32)
    path = copied.stage_folder("train-diffusion").summary
    path.write_text(json.dumps(json.loads(path.read_text()) | {"wall_seconds": 128.0}))
    page = render(copied)[PAGE].decode()
    assert "64 training images in about 2.1\N{NO-BREAK SPACE}min" in page
    assert "resumed after 32" in page


def test_text_from_files_cannot_become_markup(copied: Run) -> None:
    line = {"source": "<script>alert(1)</script>.jpg", "outcome": "corrupt", "detail": '"><img src=x onerror=alert(1)>'}
    _edit_summary(copied, "shard", rejected=[line])
    page = render(copied)[PAGE].decode()
    assert "<script>" not in page
    assert "<img src=x" not in page
    assert "&lt;script&gt;" in page


def test_the_worst_leaks_come_first_and_each_synthetic_face_once() -> None:
    leaks = [
        Leak(key="x", reason=Reason.TOO_SIMILAR, real="r", cosine=0.7),
        Leak(key="y", reason=Reason.TOO_SIMILAR, real="r", cosine=0.9),
        Leak(key="y", reason=Reason.TOO_SIMILAR_TO_CENTER, real="r", cosine=0.95),
        Leak(key="z", reason=Reason.NEAR_MIRRORED, real="r"),
    ]
    assert [(leak.key, leak.cosine) for leak in worst_leaks(leaks)] == [("z", None), ("y", 0.9), ("x", 0.7)]


def test_a_pair_shows_the_real_image_or_the_first_of_the_person(copied: Run) -> None:
    synthetic, real = synthetic_set(copied), real_set(copied)
    row = next(row for row, label in enumerate(real.labels) if label == 1)
    for name, expected in ((real.keys[3], 3), (real.classes[1], row)):
        shown = pair(synthetic.keys[0], name, caption="", synthetic=synthetic, real=real)
        assert shown.real.alt == f"real face {real.keys[expected]}"


def test_a_runs_own_benchmarks_stand_beside_those_of_others() -> None:
    accuracies = {"lfw": 0.9903, "cfp_fp": 0.9106, "calfw": 0.9242, "cplfw": 0.8765}
    found = {name: {"synthetic": {"accuracy": value}} for name, value in accuracies.items()}
    assert own_accuracies(found) == [99.03, 91.06, None, 92.42, 87.65]
    found["agedb_30"] = {"synthetic": {"accuracy": 0.9133}}
    assert own_accuracies(found) == [99.03, 91.06, 91.33, 92.42, 87.65]
    assert own_accuracies({"own-pairs": {"synthetic": {"accuracy": 0.9}}}) == []


def test_numbers_are_for_people() -> None:
    shown = [duration(seconds).replace("\N{NO-BREAK SPACE}", " ") for seconds in (0.163, 8.65, 53.9, 522, 10_000)]
    assert shown == ["0.16 s", "8.7 s", "54 s", "8.7 min", "2.8 h"]
    assert decimal(-0.25) == "\N{MINUS SIGN}0.25"
    assert decimal(2529.23, 1) == "2,529.2"
    assert decimal(float("inf")) == "not defined"
    assert points(1.0) == "+1.0"
    assert [size(count).replace("\N{NO-BREAK SPACE}", " ") for count in (999, 1500, 2.5e10)] == [
        "999 bytes",
        "1.5 kB",
        "25.0 GB",
    ]


@pytest.fixture
def browser(tmp_path: Path) -> Iterator[webdriver.Chrome]:
    yield from browsers(tmp_path / "profile")


@pytest.fixture
def page(tiny_run: Any) -> Path:
    made: Path = tiny_run.folder / "report" / "index.html"
    return made


@pytest.mark.parametrize("width", [1280, 400])
def test_a_browser_shows_all_of_the_page(page: Path, browser: webdriver.Chrome, width: int) -> None:
    show(browser, page, width=width)
    assert_all_is_shown(browser, width=width, plots=9)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_page_is_for_everybody(page: Path, browser: webdriver.Chrome, scheme: str) -> None:
    show(browser, page, scheme=scheme)
    assert violations(browser) == []


def test_the_keyboard_reaches_every_link_and_wide_table(page: Path, browser: webdriver.Chrome) -> None:
    show(browser, page)
    body = browser.find_element("tag name", "body")
    body.send_keys(Keys.TAB)
    assert browser.switch_to.active_element.text == "Skip to the figures"
    browser.switch_to.active_element.send_keys(Keys.ENTER)
    assert browser.execute_script("return document.activeElement.id") == "main"
    stops = browser.execute_script(
        "return [...document.querySelectorAll('a[href], summary, [tabindex=\"0\"]')]"
        ".filter(stop => stop.tabIndex >= 0 && stop.checkVisibility()).length"
    )
    regions = browser.execute_script("return document.querySelectorAll('.scroll').length")
    assert stops == 1 + len(SECTIONS) + regions + 1  # skip link, contents, wide tables, the config
    targets = browser.execute_script(
        "return [...document.querySelectorAll('nav a')].map(link => document.querySelector(link.hash) !== null)"
    )
    assert targets == [True] * len(SECTIONS)


def test_the_page_prints_on_a4_with_nothing_cut_off(page: Path, browser: webdriver.Chrome) -> None:
    show(browser, page)
    assert_prints(browser)


BENCHMARK = """
convert-benchmarks:
  image_size: 16
  sources:
    listed: {pairs: pairs.tsv, images: faces}
"""


@pytest.fixture(scope="module")
def whole_run(tiny_run: Any, tmp_path_factory: pytest.TempPathFactory) -> Project:
    """The tiny run with a benchmark of its held-out people and both studies; its net is too untrained to calibrate."""
    project = Project.copy_of(tiny_run, tmp_path_factory.mktemp("whole") / "project")
    faces = held_out_set(load_run_folder(project.runs))
    assert faces is not None
    photos = [(str(faces.record(row)["source"]), int(faces.labels[row])) for row in range(len(faces))]
    pairs = [(a, b) for number, a in enumerate(photos) for b in photos[:number]]
    lines = [f"{int(a[1] == b[1])}\t{a[0]}\t{b[0]}" for a, b in pairs]
    (project.root / "pairs.tsv").write_text("\n".join(["same\ta\tb", *lines]) + "\n")
    config = project.root / "configs" / "tiny.yaml"
    config.write_text(config.read_text() + BENCHMARK + STUDIES)
    done = project.run("all")
    assert done.returncode == 0, done.stderr[-3000:]
    return project


@pytest.mark.long
def test_benchmarks_and_studies_of_a_run_are_on_the_page(whole_run: Project) -> None:
    page = (whole_run.runs / "report" / "index.html").read_text()
    assert _sections(page) == [part.name for part in PARTS if part.name != "calibration"]
    for study in ("study-groups", "study-m"):
        rows = whole_run.summary(study)["figures"]["groups"]
        assert len(rows) == 2
        for row in rows:
            assert row["group"] in page
            assert percent(row["average"]["mean"]) in page
    results = (whole_run.runs / "report" / RESULTS).read_text()
    for row in whole_run.summary("study-sets")["figures"]["groups"][1:]:
        assert f"| {row['group']} | {row['images']} | " in results
        assert f"{percent(row['gap']['mean'])} &plusmn; {percent(row['gap']['std'])}" in page
    assert page.count("2 seeds; whiskers: one standard deviation") == 3
    for net, found in whole_run.summary("evaluate")["figures"]["benchmarks"]["listed"].items():
        assert percent(found["accuracy"], 2) in page, net


@pytest.mark.long
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_browser_shows_a_whole_run_on_desk_phone_and_paper(
    whole_run: Project, browser: webdriver.Chrome, scheme: str
) -> None:
    page = whole_run.runs / "report" / "index.html"
    for width in (1280, 400):
        show(browser, page, width=width, scheme=scheme)
        assert_all_is_shown(browser, width=width, plots=9 + 2 * 2 + 1)
        assert violations(browser) == []
    assert_prints(browser)
