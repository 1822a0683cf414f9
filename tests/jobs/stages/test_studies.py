"""The studies, run by the command on the tiny run: a net for every group, a table and a plot, and nothing twice."""

from __future__ import annotations

import itertools
import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from cemiface.recognition.gap_intervals import Decisions
from jobs.frame.experiment import load_run
from jobs.methods.cemiface.paper_curves import PAPER_GROUPS, paper_curve, plot, table
from jobs.methods.cemiface.study_groups.work import equal_groups
from jobs.stages.shared.other_runs import other_set
from jobs.stages.shared.studies.intervals import with_intervals
from jobs.stages.shared.studies.nets import spread, summarize, with_gaps
from jobs.stages.study_sets.work import table as sets_table
from shards.errors import DataError
from tests.jobs.commands import Project
from tests.jobs.conftest import RECIPE, TinyRun
from tests.jobs.one_rank import edit_config

STUDY = RECIPE + "  seeds: 2\n  verification: {folds: 2}\n"
COMPARED = """\
    mine: {sets: [synthetic], images_of_each: 8}
    other: {sets: ["run:other"], images_of_each: 8}
    half of each: {sets: [synthetic, "run:other"], images_of_each: 4}
"""
STUDIES = f"""
study-groups:
{STUDY}  groups: 2
  min_images: 4
study-m:
{STUDY}study-sets:
{STUDY}  compare:
    real: {{sets: [real]}}
    synthetic: {{sets: [synthetic]}}
    easy: {{sets: [synthetic], m: [1.0]}}
    both, in part: {{sets: [real, synthetic], images: 12, augment: {{erase_probability: 0.0}}}}
"""


@pytest.fixture
def project(tiny_run: TinyRun, tmp_path: Path) -> Project:
    copied = Project.copy_of(tiny_run, tmp_path / "copy")
    config = copied.root / "configs" / "tiny.yaml"
    config.write_text(config.read_text() + STUDIES)
    return copied


def test_study_groups_trains_a_net_per_group_and_seed_and_ends_in_a_table_and_a_plot(project: Project) -> None:
    done = project.run("study-groups")
    assert done.returncode == 0, done.stderr
    summary = project.summary("study-groups")
    assert summary["units"] == 4
    rows = summary["figures"]["groups"]
    assert [row["group"] for row in rows] == ["group 1", "group 2"]
    assert rows[0]["similarity"] > rows[1]["similarity"]
    assert rows[0]["images"] == rows[1]["images"] > 0
    assert [row["seeds"] for row in rows] == [2, 2]
    assert all(0 <= value <= 1 for row in rows for value in row["accuracy"]["held-out"]["values"])
    assert [row["gap"]["to"] for row in rows] == [max(rows, key=lambda row: row["average"]["mean"])["group"]] * 2
    for row in rows:
        low, high = row["accuracy"]["held-out"]["interval"]
        assert 0 <= low <= row["accuracy"]["held-out"]["mean"] <= high <= 1
    folder = project.runs / "study-groups"
    assert "| group 1 |" in (folder / "table.md").read_text()
    assert (folder / "curve.svg").read_bytes().startswith(b"<?xml")
    assert list(folder.glob("checkpoints/*")) == []  # of finished nets nothing is kept but the figures


@pytest.mark.long
def test_a_net_that_is_missing_is_trained_again_to_the_last_bit_and_no_other(project: Project) -> None:
    assert project.run("study-groups").returncode == 0
    summary, folder = project.summary("study-groups"), project.runs / "study-groups"
    (folder / "net-001.json").unlink()
    before = {path.name: path.stat().st_mtime_ns for path in folder.glob("net-*.json")}
    again = project.run("study-groups")
    assert again.returncode == 0, again.stderr
    after = {path.name: path.stat().st_mtime_ns for path in folder.glob("net-*.json")}
    assert {name: after[name] for name in before} == before
    assert project.summary("study-groups")["outcome"] == summary["outcome"]  # the same net, to the last bit


@pytest.mark.long
def test_study_m_trains_a_net_per_requested_m_and_reports_the_measured_similarity(project: Project) -> None:
    done = project.run("study-m")
    assert done.returncode == 0, done.stderr
    rows = project.summary("study-m")["figures"]["groups"]
    assert [row["group"] for row in rows] == ["m = 1", "m = 0"]
    assert [row["images"] for row in rows] == [8, 8]
    measured = {entry["m"]: entry["mean"] for entry in project.summary("generate")["figures"]["measured_cosine"]}
    assert rows[0]["similarity"] == pytest.approx(measured[1.0], abs=1e-4)
    assert rows[1]["similarity"] == pytest.approx(measured[0.0], abs=1e-4)


def test_study_sets_reports_the_gap_of_each_set_to_the_first_seed_by_seed(project: Project) -> None:
    done = project.run("study-sets", "study-sets.seeds=1")
    assert done.returncode == 0, done.stderr
    rows = project.summary("study-sets")["figures"]["groups"]
    assert [row["group"] for row in rows] == ["real", "synthetic", "easy", "both, in part"]
    images = {row["group"]: row["images"] for row in rows}
    assert images["easy"] * 2 == images["synthetic"]  # each requested m has half of the images
    assert images["both, in part"] == 12
    for row in rows:
        assert row["gap"]["values"] == [rows[0]["average"]["mean"] - row["average"]["mean"]]
    table = (project.runs / "study-sets" / "table.md").read_text()
    assert "gap to real" in table
    assert table.count("| easy | 8 |") == 1


@pytest.mark.long
def test_study_sets_compares_the_set_of_another_run_and_half_of_each_at_one_volume(project: Project) -> None:
    other = project.root / "runs" / "other"
    shutil.copytree(project.runs, other)
    edit_config(other, name="other", root=str(project.root))
    config = project.root / "configs" / "tiny.yaml"
    text = config.read_text()
    config.write_text(text[: text.index("study-groups:")] + f"study-sets:\n{STUDY}  compare:\n" + COMPARED)
    settings = ("study-sets.seeds=1", "study-sets.measured_images=5")
    done = project.run("study-sets", *settings)
    assert done.returncode == 0, done.stderr
    figures = project.summary("study-sets")["figures"]
    rows = {row["group"]: row for row in figures["groups"]}
    assert {row["images"] for row in rows.values()} == {8}
    assert rows["half of each"]["identities"] == 2  # of one name in both sets, and yet two
    assert rows["mine"]["measured"]["images"] == 5
    assert figures["sets"]["run:other"]["method"] == "cemiface"
    assert figures["sets"]["run:other"]["seconds"] > 0
    low, high = rows["mine"]["accuracy"]["held-out"]["interval"]
    assert low < rows["mine"]["accuracy"]["held-out"]["mean"] < high or low == 0 or high == 1
    page = project.run("report", *settings)
    assert page.returncode == 0, page.stderr
    results = (project.runs / "report" / "results.md").read_text()
    assert "hours to make | leaked | women" in results
    assert "| half of each | 8 | 2 |" in results


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("tiny", "sets: got run:tiny, which is this run; allowed: synthetic"),
        ("none", "sets: got run:none, no such run in"),
        ("renamed", "sets: got run:renamed, whose config is of"),
        ("unfinished", "sets: got run:unfinished, which has no finished set; run its stage generate first"),
    ],
)
def test_a_run_without_a_set_is_refused(project: Project, name: str, message: str) -> None:
    for other in ("renamed", "unfinished"):
        (project.root / "runs" / other).mkdir()
        for file in ("config.yaml", "cluster.yaml"):
            shutil.copy(project.runs / file, project.root / "runs" / other)
        edit_config(project.root / "runs" / other, root=str(project.root))
    edit_config(project.root / "runs" / "unfinished", name="unfinished")
    run = load_run(project.root / "configs" / "tiny.yaml")
    with pytest.raises(DataError, match=message):
        other_set(run, f"run:{name}")


@pytest.mark.parametrize(
    ("part", "message"),
    [
        (
            "study-sets.compare.easy.m=[0.3]",
            "study-sets.compare.easy.asked.m: got 0.3; allowed: those of the set, 0, 1",
        ),
        (
            "study-sets.compare.synthetic.images_of_each=17",
            "study-sets.compare.synthetic.images_of_each: got 17 for 16 images (synthetic); allowed: 1 to 16",
        ),
        ("study-sets.compare.easy.images=9", "study-sets.compare.easy.images: got 9; allowed: 1 to 8"),
        (
            "study-sets.compare.synthetic.images_of_each=4 study-sets.batch=4",
            "study-sets: sets: got 1 identity to train on; allowed: 2 or more",
        ),
    ],
)
def test_a_part_that_a_set_does_not_have_is_refused(project: Project, part: str, message: str) -> None:
    refused = project.run("study-sets", "study-sets.seeds=1", *part.split())
    assert refused.returncode != 0
    assert message in refused.stderr


def test_gaps_are_of_nets_of_one_seed():
    rows = with_gaps(summarize(_nets(2, 3), order=["group 1", "group 2"]))
    assert rows[0]["gap"] == {"to": "group 1", "mean": 0.0, "std": 0.0, "values": [0.0, 0.0, 0.0]}
    lower = [{**row, "average": {**row["average"], "values": [0.8, 0.7, 0.9]}} for row in rows]
    gap = with_gaps([rows[0], lower[1]])[1]["gap"]
    assert gap["values"] == pytest.approx([0.05, 0.155, -0.04])
    assert "| -4.00 +-" in sets_table(with_gaps([rows[0], {**lower[1], "average": spread([0.89, 0.895, 0.9])}]))


def test_gaps_have_intervals_which_say_what_is_not_told_apart() -> None:
    """The net of group 2 decides 100 of 1,000 pairs wrongly that the others decide rightly, group 3 two of them."""
    people = np.arange(2000).reshape(1000, 2)
    people[::2, 1] = people[::2, 0]
    wrong = {"group 1": 0, "group 2": 100, "group 3": 2}
    decisions = {
        group: {"lfw": Decisions(right=np.repeat([np.arange(1000.0) >= count], 3, axis=0) * 1.0, people=people)}
        for group, count in wrong.items()
    }
    nets = [{**net, "accuracy": {"lfw": 1 - wrong[net["group"]] / 1000}} for net in _nets(3, 3)]
    rows = with_intervals(with_gaps(summarize(nets, order=list(wrong))), decisions, seed=1)
    assert "interval" not in rows[0]["gap"]
    low, high = rows[1]["gap"]["interval"]
    assert 0.07 < low < 0.1 < high < 0.13
    assert rows[1]["average"]["interval"] == pytest.approx([1 - high, 1 - low])
    text = sets_table(rows)
    assert "not told apart" not in text.splitlines()[-2]
    assert "| 0.20 [0.00, " in text.splitlines()[-1]
    assert "not told apart |" in text.splitlines()[-1]
    best = with_gaps([rows[1], rows[0]], to_best=True)
    assert best[0]["gap"]["to"] == "group 1"
    assert best[0]["gap"]["mean"] == pytest.approx(0.1)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["study-groups.groups=7"], "study-groups.min_images: got 4 for 7 groups; allowed: at least as many"),
        (["shard.held_out_identities=0"], "study-groups: has no benchmark; set shard.held_out_identities"),
        (["generate.images_per_identity=5"], "generate.images_per_identity: got 5 for 2 values of m"),
    ],
)
def test_a_study_that_cannot_be_made_is_refused_before_anything_runs(project, overrides, message) -> None:
    stage = "study-m" if overrides[0].startswith("generate") else "study-groups"
    refused = project.run("plan", *overrides)
    assert refused.returncode != 0
    assert message in refused.stderr, (stage, refused.stderr)


def test_groups_are_equally_large_for_every_identity_and_fall_in_similarity():
    draw = np.random.default_rng(0)
    labels = np.repeat(np.arange(6), [4, 11, 10, 13, 5, 24])
    draw.shuffle(labels)
    similarity = draw.uniform(-1, 1, len(labels)).astype(np.float32)
    groups = equal_groups(similarity, labels, groups=5, min_images=10)
    assert {len(group) for group in groups} == {2 + 2 + 2 + 4}
    assert len(np.unique(np.concatenate(groups))) == 50
    for label, each in ((1, 2), (2, 2), (3, 2), (5, 4)):
        own = [similarity[group[labels[group] == label]] for group in groups]
        assert {len(part) for part in own} == {each}
        assert all(upper.min() >= lower.max() for upper, lower in itertools.pairwise(own))


def _nets(groups: int, seeds: int) -> list[dict]:
    return [
        {
            "group": f"group {group + 1}",
            "seed": seed,
            "images": 100,
            "identities": 10,
            "similarity": 0.9 - 0.1 * group,
            "similarity_std": 0.05,
            "accuracy": {"lfw": 0.9 + 0.01 * seed, "agedb": 0.8},
        }
        for seed in range(seeds)
        for group in range(groups)
    ]


def test_the_table_holds_mean_and_spread_over_seeds_beside_the_papers_numbers():
    rows = with_gaps(summarize(_nets(5, 3), order=[f"group {number}" for number in range(1, 6)]))
    text = table(rows, paper=paper_curve("study-groups", rows), name="study-groups")
    lines = [line for line in text.splitlines() if line.startswith("| group ")][1:]
    assert len(lines) == 5
    assert "| 0.900 +- 0.050 | 91.00 +- 1.00 | 80.00 +- 0.00 | 85.50 +- 0.50 |  | 0.85 | 89.48 |" in lines[0]
    assert "3 seeds" in text


def test_one_seed_shows_no_spread():
    rows = with_gaps(summarize(_nets(5, 1), order=[f"group {number}" for number in range(1, 6)]))
    assert "one seed: no spread is known" in table(rows, paper=PAPER_GROUPS, name="study-groups")
    assert rows[0]["average"]["std"] is None


def test_the_plot_is_the_same_bytes_each_time_and_knows_both_studies():
    rows = summarize(_nets(2, 2), order=["group 1", "group 2"])
    assert paper_curve("study-groups", rows) == [None, None]  # two groups are not the paper's five
    once, again = (plot(rows, paper=[None, None], name="study-groups") for _ in range(2))
    assert once == again
    by_m = [{**row, "group": group} for row, group in zip(rows, ("m = 1", "m = 0.8"), strict=True)]
    assert paper_curve("study-m", by_m) == [(1.0, 0.8413), None]
    assert "requested m" in json.dumps(plot(by_m, paper=[None, None], name="study-m").decode())
