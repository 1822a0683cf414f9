"""The report of a small run: its bytes, its text, and how a browser shows it; also for a method with other parts."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from selenium import webdriver
from selenium.webdriver.common.keys import Keys

from jobs.frame.experiment import load_run_folder
from jobs.frame.methods import find_method
from jobs.frame.run import Run
from jobs.report.chain import chain
from jobs.report.faces import pair
from jobs.report.numbers import decimal, duration, percent, points, size
from jobs.report.page import PAGE, RESULTS, parts_of, render
from jobs.report.part import Part, Sets, held_out_set, real_set, synthetic_set
from jobs.report.published import own_accuracies
from jobs.report.real_images import RealImages
from jobs.stages.shard.plan import ShardFaces
from jobs.stages.shared.tars import publishing_tar
from shards.privacy.leaks import Leak, Reason, worst_leaks
from shards.privacy.lineage import CheckedSet, DataSet
from shards.tars.shard_set import ShardSet
from tests.jobs.commands import Project
from tests.jobs.conftest import RECIPE
from tests.jobs.one_rank import copied_run, edit_config
from tests.jobs.report.browser import assert_all_is_shown, assert_prints, browsers, show, violations

TITLE = "Tiny run"
ALL_SECTIONS = [part.name for part in parts_of(find_method("cemiface"))]
ABSENT = ("benchmarks", "calibration", "studies", "comparison")  # the tiny run has no stage for them
SECTIONS = [name for name in ALL_SECTIONS if name not in ABSENT]
NO_PARTS: tuple[Part, ...] = ()  # of a method without parts of its own
SHAPES, COLORS = ("disk", "long-ring"), ("blue", "red")


@pytest.fixture
def copied(tiny_run: Any, tmp_path: Path) -> Run:
    """The run folder alone: the faces it was made from are not there."""
    return copied_run(tiny_run, tmp_path, faces=False)


def _page(run: Run) -> str:
    return render(run, title=TITLE)[PAGE].decode()


def _results(run: Run) -> str:
    return render(run, title=TITLE)[RESULTS].decode()


def _edit_json(path: Path, **fields: Any) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | fields))


def _edit_summary(run: Run, stage: str, **figures: Any) -> None:
    path = run.stage_folder(stage).summary
    summary = json.loads(path.read_text())
    summary["figures"] |= figures
    path.write_text(json.dumps(summary))


def _sections(page: str) -> list[str]:
    return re.findall(r'<section id="(\w+)"', page)


def test_the_page_is_a_function_of_the_run_folder_alone(tiny_run: Any, copied: Run) -> None:
    assert render(copied, title=TITLE) == {
        name: (tiny_run.folder / "report" / name).read_bytes() for name in (PAGE, RESULTS)
    }


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
    page = _page(copied)
    assert re.findall(r'(?:src|href)="(?!data:|#)[^"]*"', page) == []
    assert re.findall(r"url\((?!#)", page) == []
    assert "http:" not in page
    assert "https:" not in page
    assert "<script" not in page


def test_the_page_names_no_folder_of_the_machine(tiny_run: Any, copied: Run) -> None:
    edit_config(
        copied.folder.root, shard={**copied.section(ShardFaces).model_dump(mode="json"), "faces": "/home/user/photos"}
    )
    page = _page(load_run_folder(copied.folder.root))
    assert "/home/user" not in page
    assert "photos" in page
    assert str(copied.root) not in page
    assert str(tiny_run.folder.parent) not in page


def test_a_whole_run_shows_every_section_in_order(copied: Run) -> None:
    page = _page(copied)
    assert _sections(page) == SECTIONS
    assert "do not publish" in page


def test_outcomes_add_up_in_every_stage_and_the_broken_image_is_named(copied: Run) -> None:
    assert all(row["adds_up"] for row in chain(copied, Sets.of(copied))["chain"])
    page = _page(copied)
    assert "the outcomes add up" in page
    assert "person-0/empty.jpg" in page
    assert "30 images of 5 people" in page


def test_counts_that_do_not_add_up_are_marked(copied: Run) -> None:
    path = copied.stage_folder("generate").summary
    _edit_json(path, images_in=17)
    assert "does not add up" in _page(copied)


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
    page = _page(load_run_folder(copied.folder.root))
    assert _sections(page) == ["chain", "faces", "training", "costs", "rejected", "provenance"]
    assert not re.search(r">\s*None\b(?!:)", page)


def test_a_stage_without_summary_is_called_unfinished(copied: Run) -> None:
    for stage in ("evaluate", "publish"):
        copied.stage_folder(stage).summary.unlink()
    page = _page(copied)
    assert page.count("not finished when this page was made") == 2
    assert not {"verification", "scores", "published"} & set(_sections(page))


def test_a_resumed_training_shows_the_seconds_of_all_its_attempts(copied: Run) -> None:
    _edit_summary(copied, "train-diffusion", resumed_after_images=32)
    _edit_json(copied.stage_folder("train-diffusion").summary, wall_seconds=128.0)
    page = _page(copied)
    assert "64 training images in about 2.1\N{NO-BREAK SPACE}min" in page
    assert "resumed after 32" in page


def _toy_run(run: Run) -> Run:
    """The run as of a method that asks for shapes and colors, measures nothing and has no parts of its own."""
    for path in run.ledger.outputs("generate", suffix=".tar"):
        images = ShardSet([path])
        samples = [(images.keys[row], images.jpeg(row), images.record(row)) for row in range(len(images))]
        with publishing_tar(path, record=lambda output: None, replace=True) as tar:
            for key, jpeg, old in samples:
                asked = {"shape": SHAPES[old["index"] % 2], "color": COLORS[old["index"] // 2]}
                kept = {name: old[name] for name in ("identity", "index", "seed", "origin")}
                tar.add(key, jpg=jpeg, record={**kept, "asked": asked})
    _edit_json(run.stage_folder("generate").summary, figures={})
    rates = {"color": dict.fromkeys(COLORS, 0.25), "shape": dict.fromkeys(SHAPES, 0.25)}
    path = run.stage_folder("audit").output("verdict.json")
    figures = json.loads(path.read_text())["figures"]
    by_rate = [{**row, "rate_by": rates} for row in figures["by_false_match_rate"]]
    shapes = CheckedSet(data=DataSet(name="drawn shapes", license="CC0-1.0"), held_against=None)
    lineage = [shapes.record()]
    _edit_json(path, figures={**figures, "leak_rate_by": rates, "by_false_match_rate": by_rate}, lineage=lineage)
    run.method = replace(
        run.method,
        report_parts=f"{__name__}:NO_PARTS",
        training_plots="",
        identity_faces=lambda run: None,
        lineage=lambda run: (),
    )
    return run


def test_a_method_with_other_fields_has_a_complete_page(copied: Run) -> None:
    run = _toy_run(copied)
    page, results = _page(run), _results(run)
    assert _sections(page) == [name for name in SECTIONS if name != "similarity"]
    for color in COLORS:
        assert f"color = {color}" in page
        for shape in SHAPES:
            assert f">color = {color}, shape = {shape}</th>" in page
    measured = page[
        page.index('<section id="faces"') : page.index('<section id="costs"')
    ]  # no names of stages or fields
    assert not re.search(r"\bm = |inquiry|measured cosine|first face", measured)
    assert "| drawn shapes | CC0-1.0 |" in results
    assert "similarity to center" in results
    assert "## Requested" not in results


def test_data_the_audit_does_not_cover_is_named_at_the_top_and_in_the_audit(copied: Run) -> None:
    own = CheckedSet(data=DataSet(name="faces", images=1200, sha256="0" * 64), held_against="content")
    named = CheckedSet(data=DataSet(name="more"), held_against="name")
    other = CheckedSet(data=DataSet(name="web <photos>", license="unclear"), held_against=None)
    path = copied.stage_folder("audit").output("verdict.json")
    sentence = "The nets were also trained on data that the audit does not compare the set with: web &lt;photos&gt;."
    _edit_json(path, lineage=[row.record() for row in (own, named, other)])
    page = _page(copied)
    assert page.count(sentence) == 2
    assert "yes, matched by name" in page
    rows = "| faces | unknown | 1200 | 000000000000 | yes |\n| more | unknown |  |  | yes |\n| web <photos> | unclear |"
    assert rows in _results(copied)
    _edit_json(path, lineage=[own.record()])
    assert "does not compare" not in _page(copied) + _results(copied)


def test_an_audit_of_an_older_version_is_shown_as_one_against_the_training_faces_only(copied: Run) -> None:
    path = copied.stage_folder("audit").output("verdict.json")
    value = json.loads(path.read_text())
    del value["lineage"]
    path.write_text(json.dumps(value))
    other = DataSet(name="unknown origin: embedder.weights")
    own = copied.method.lineage(copied)
    copied.method = replace(copied.method, lineage=lambda run: (*own, other))
    page = _page(copied)
    assert "of an older version, which compared the set with the training faces of this run only" in page
    assert "does not compare the set with: unknown origin: embedder.weights." in page


def test_a_group_that_the_evaluation_net_did_not_see_has_an_empty_cell(copied: Run) -> None:
    path = copied.stage_folder("evaluate").summary
    figures = json.loads(path.read_text())["figures"]
    figures["scores"]["synthetic"]["judge_cosine_to_inquiry"] = [{"m": 1.0, "mean": 0.4321, "std": 0.1, "images": 8}]
    _edit_json(path, figures=figures)
    assert "0.432" in _page(copied)
    rows = [line for line in _results(copied).splitlines() if line.startswith(("| 0.0 |", "| 1.0 |"))]
    assert [row.endswith(end) for row, end in zip(rows, ("|  |", "| 0.432 |"), strict=True)] == [True, True]


def test_text_from_files_cannot_become_markup(copied: Run) -> None:
    line = {"source": "<script>alert(1)</script>.jpg", "outcome": "corrupt", "detail": '"><img src=x onerror=alert(1)>'}
    _edit_summary(copied, "shard", rejected=[line])
    page = _page(copied)
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


def test_a_pair_shows_the_real_image_or_the_first_of_the_person_or_none(copied: Run) -> None:
    synthetic, real = synthetic_set(copied), real_set(copied)
    held_out = ShardSet(copied.ledger.outputs("shard", prefix="held-out-", suffix=".tar"))
    row = next(row for row, label in enumerate(real.labels) if label == 1)
    for name, expected in (
        (real.keys[3], real.jpeg(3)),
        (real.classes[1], real.jpeg(row)),
        (f"held-out/{held_out.keys[2]}", held_out.jpeg(2)),
    ):
        shown = pair(synthetic.keys[0], name, caption="", synthetic=synthetic, real=RealImages(copied)).real
        assert shown is not None
        assert shown.alt == f"real face {name}"
        assert base64.b64decode(shown.src.partition(",")[2]) == expected
    none = pair(synthetic.keys[0], "also-00-00000/x", caption="", synthetic=synthetic, real=RealImages(copied))
    assert none.real is None


def test_the_runs_benchmarks_are_listed_in_the_order_of_the_published_ones() -> None:
    accuracies = {"lfw": 0.9903, "cfp_fp": 0.9106, "calfw": 0.9242, "cplfw": 0.8765}
    found = {name: {"synthetic": {"accuracy": value}} for name, value in accuracies.items()}
    assert own_accuracies(found) == [99.03, 91.06, None, 92.42, 87.65]
    found["agedb_30"] = {"synthetic": {"accuracy": 0.9133}}
    assert own_accuracies(found) == [99.03, 91.06, 91.33, 92.42, 87.65]
    assert own_accuracies({"own-pairs": {"synthetic": {"accuracy": 0.9}}}) == []


def test_numbers_are_rounded_and_have_units() -> None:
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
def test_the_page_is_accessible(page: Path, browser: webdriver.Chrome, scheme: str) -> None:
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


STUDY = RECIPE + "  seeds: 2\n  verification: {folds: 2}\n"
MORE_STAGES = f"""
convert-benchmarks:
  image_size: 16
  sources:
    listed: {{pairs: pairs.tsv, images: faces}}
study-groups:
{STUDY}  groups: 2
  min_images: 4
study-m:
{STUDY}study-sets:
{STUDY}  compare:
    real: {{sets: [real]}}
    synthetic: {{sets: [synthetic]}}
    easy: {{sets: [synthetic], m: [1.0]}}
    both, in part: {{sets: [real, synthetic], images: 12}}
"""


@pytest.fixture(scope="module")
def whole_run(tiny_run: Any, tmp_path_factory: pytest.TempPathFactory) -> Project:
    """The tiny run with a benchmark of its held-out people and all studies; its net is too untrained to calibrate."""
    project = Project.copy_of(tiny_run, tmp_path_factory.mktemp("whole") / "project")
    faces = held_out_set(load_run_folder(project.runs))
    assert faces is not None
    photos = [(str(faces.record(row)["source"]), int(faces.labels[row])) for row in range(len(faces))]
    pairs = [(a, b) for number, a in enumerate(photos) for b in photos[:number]]
    lines = [f"{int(a[1] == b[1])}\t{a[0]}\t{b[0]}" for a, b in pairs]
    (project.root / "pairs.tsv").write_text("\n".join(["same\ta\tb", *lines]) + "\n")
    config = project.root / "configs" / "tiny.yaml"
    config.write_text(config.read_text() + MORE_STAGES)
    done = project.run("all")
    assert done.returncode == 0, done.stderr[-3000:]
    return project


@pytest.mark.long
def test_benchmarks_and_studies_of_a_run_are_on_the_page(whole_run: Project) -> None:
    page = (whole_run.runs / "report" / "index.html").read_text()
    assert _sections(page) == [name for name in ALL_SECTIONS if name != "calibration"]
    for study in ("study-groups", "study-m"):
        rows = whole_run.summary(study)["figures"]["groups"]
        assert len(rows) == 2
        for row in rows:
            assert row["group"] in page
            assert percent(row["average"]["mean"]) in page
    results = (whole_run.runs / "report" / RESULTS).read_text()
    for row in whole_run.summary("study-sets")["figures"]["groups"][1:]:
        assert f"| {row['group']} | {row['images']} | " in results
        low, high = (decimal(100 * bound) for bound in row["gap"]["interval"])
        assert f"{decimal(100 * row['gap']['mean'])} <small>{low} &ndash; {high}" in page
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
