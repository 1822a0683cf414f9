"""The audit's stages on small runs: who is fingerprinted, who is probed, and what the figures say."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from jobs.frame.experiment import load_run_folder
from jobs.frame.ledger import Ledger
from jobs.frame.products import KEPT_BACK, TRAINED
from jobs.frame.run import Run
from jobs.stages.audit.figures import Tally
from jobs.stages.audit.plan import STAGE as AUDIT
from jobs.stages.audit.plan import control_tars, forecast
from jobs.stages.shard.plan import ShardUnit
from shards.images.jpeg import encode_jpeg
from shards.privacy.copies.alterations import ALTERATIONS
from shards.privacy.copies.hypotheses import FAMILIES
from shards.privacy.findings import ClosestMatches, Findings
from shards.privacy.fingerprints import Vectors, read_fingerprints, read_vectors, vectors_bytes
from shards.privacy.thresholds import Thresholds
from shards.tars.reader import read_tar
from shards.tars.records import MAX_VALUES
from shards.tars.shard_set import ShardSet

from ..commands import Project
from ..one_rank import edit_config, record_again
from ..planted import plant


def test_every_real_face_is_fingerprinted_and_every_training_person_has_a_center(copied: Run) -> None:
    shards = copied.stage_folder("shard").root
    for tar in shards.glob("*.tar"):
        found = read_fingerprints(copied.stage_folder("fingerprint").output(tar.with_suffix(".h5").name))
        assert (found.keys, found.identities) == (ShardSet([tar]).keys, ShardSet([tar]).identities)
    real = ShardSet(sorted(shards.glob("real-*.tar")))
    centers = read_vectors(copied.stage_folder("fingerprint").output("centers.h5"))
    assert centers.keys == real.classes


def test_the_control_group_sets_the_thresholds_and_the_verdict_names_it(copied: Run) -> None:
    verdict = json.loads(copied.stage_folder("audit").output("verdict.json").read_text())
    assert "at most 30.0% of 18 faces of 3 real people that no net was trained on" in verdict["thresholds"]["basis"]
    control = json.loads(copied.stage_folder("audit").output("nearest-held-out-00000.json").read_text())
    images = control["findings"]["images"]
    reached = sum(cosine >= verdict["thresholds"]["image_to_face"] for cosine in images["face_cosine"])
    assert reached <= 0.3 * 18
    assert verdict["independent"] is False
    assert verdict["figures"]["overlap"]["held-out"]["people"] == 3
    assert verdict["references"] == 48


@pytest.mark.long
def test_without_held_out_people_the_training_people_are_the_control_group(tiny_run: Any, tmp_path: Path) -> None:
    project = Project.copy_of(tiny_run, tmp_path / "project")
    fields = ("shard.held_out_identities=0", "train-embedder.epochs=1", "train-embedder.drop_after_epochs=[]")
    for stage in (
        "shard",
        "train-embedder",
        "embed",
        "train-diffusion",
        "identities",
        "generate",
        "fingerprint",
        "audit",
    ):
        done = project.run(stage, *fields)
        assert done.returncode == 0, done.stderr
    verdict = json.loads((project.runs / "audit" / "verdict.json").read_text())
    assert "of 48 faces of 8 training people, each compared with the others, would" in verdict["thresholds"]["basis"]
    real = ShardSet(sorted((project.runs / "shard").glob("real-*.tar")))
    own = dict(zip(real.keys, real.identities, strict=True))
    files = sorted((project.runs / "audit").glob("nearest-real-*.json"))
    found = [json.loads(path.read_text())["findings"]["images"] for path in files]
    pairs = [pair for images in found for pair in zip(images["names"], images["face"], strict=True)]
    assert sorted(name for name, _ in pairs) == sorted(own)
    assert not any(own[name] == own[face] for name, face in pairs)


@pytest.mark.long
def test_a_thorough_audit_finds_an_altered_copy_which_is_not_published(tiny_run: Any, tmp_path: Path) -> None:
    project = Project.copy_of(tiny_run, tmp_path / "project")
    edit_config(project.runs, root=str(project.root))
    run = load_run_folder(project.runs)
    real = ShardSet(run.ledger.outputs("shard", prefix="real-", suffix=".tar"))
    negative = encode_jpeg(255 - real.rgb(5)[::-1], quality=95)
    plant(run, {"000000-000": negative})
    for stage in ("fingerprint", "audit", "settle", "publish", "report"):
        shutil.rmtree(project.runs / stage)
    done = project.run("all", "audit.copies=thorough", "audit.min_recall=0.6", "refill={attempts: 2}")
    assert done.returncode == 0, done.stderr
    found = read_fingerprints(project.runs / "fingerprint" / "real-00000.h5")
    assert found.pictures.shape == (len(found.keys), 1024)
    audited = json.loads((project.runs / "audit" / "verdict.json").read_text())
    assert audited["figures"]["copies"] == "thorough"
    assert set(audited["thresholds"]["copies"]) == set(FAMILIES)
    assert audited["figures"]["planted"]["by_alteration"].keys() == ALTERATIONS.keys()
    assert {leak["reason"] for leak in audited["leaks"] if leak["key"] == "000000-000"} == {"altered_copy"}
    settled = json.loads((project.runs / "settle" / "verdict.json").read_text())
    images = {sample.key: sample for tar in (project.runs / "publish").glob("*/*.tar") for sample in read_tar(tar)}
    assert settled["refilled"]
    assert all(images[key].record["attempt"] >= 1 for key in settled["refilled"])
    assert "000000-000" in {*settled["dropped"], *settled["refilled"]}
    assert negative not in {sample.jpg for sample in images.values()}


def test_the_control_group_of_a_large_set_is_some_tars_out_of_all(copied: Run, monkeypatch: Any) -> None:
    planned = [
        ShardUnit(tar=f"real-{tar:05d}.tar", start=tar * 1000, stop=(tar + 1) * 1000, faces="") for tar in range(500)
    ]
    monkeypatch.setattr(Ledger, "units", lambda self, stage: planned)
    tars = control_tars(copied)
    assert (len(tars), tars[0], tars[-1]) == (20, "real-00000.tar", "real-00475.tar")


def test_the_closest_pairs_are_a_picture(copied: Run) -> None:
    with Image.open(copied.stage_folder("audit").output("closest.jpg")) as sheet:
        verdict = json.loads(copied.stage_folder("audit").output("verdict.json").read_text())
        pairs = len(verdict["figures"]["closest"]) + min(24, len(verdict["dropped"]))
        assert sheet.size == (6 * (2 * 16 + 6), -(-pairs // 6) * (16 + 6))


def test_the_membership_signal_compares_trained_with_kept_back_photos(copied: Run) -> None:
    """The probes of the run are declared trained and kept back; those nearer to the set are the trained ones."""
    path = copied.stage_folder("fingerprint").output("probes.h5")
    probes = read_vectors(path)
    nearest = np.max(
        [
            json.loads(copied.stage_folder("audit").output(f"nearest-synthetic-{tar:05d}.json").read_text())[
                "findings"
            ]["probes"]
            for tar in range(2)
        ],
        axis=0,
    )
    groups = np.where(nearest > np.median(nearest), TRAINED, KEPT_BACK).tolist()
    declared = Vectors(keys=probes.keys, identities=groups, features=probes.features)
    path.write_bytes(vectors_bytes(declared, embedder="judge"))
    record_again(copied, "fingerprint", "probes.h5")
    figures = AUDIT.finish(copied, copied.ledger.markers("audit")).figures
    assert figures["membership"] == {
        "auc": 1.0,
        "standard_error": pytest.approx((19 / (12 * 81)) ** 0.5, abs=1e-4),
        "trained": 9,
        "kept_back": 9,
    }
    assert figures["overlap"] == {}


def test_the_forecast_has_the_number_of_comparisons(copied: Run) -> None:
    assert forecast(copied).startswith("audit: 16 x 49 comparisons, about ")


def test_dry_run_and_launch_say_how_long_the_audit_will_take_before_it_starts(tiny_run: Any, tmp_path: Path) -> None:
    project = Project.copy_of(tiny_run, tmp_path / "project")
    project.forget("audit")
    dry = project.run("plan")
    assert dry.returncode == 0, dry.stderr
    assert "audit: 16 x 49 comparisons, about" in dry.stdout
    done = project.run("audit")
    assert done.returncode == 0, done.stderr
    lines = [line for line in done.stderr.splitlines() if "audit" in line]
    assert "audit: 16 x 49 comparisons, about" in lines[0]
    assert "audit: finished" in lines[-1]


@pytest.mark.long
def test_kept_back_images_are_not_trained_on_and_are_compared_with_as_many_training_images(
    tmp_path: Path, tiny_run: Any
) -> None:
    project = Project.copy_of(tiny_run, tmp_path / "project")
    project.forget(*(path.name for path in project.runs.iterdir() if path.is_dir()))
    fields = ("shard.kept_back_fraction=0.34", "train-embedder.epochs=1", "train-embedder.drop_after_epochs=[]")
    for stage in ("shard", "train-embedder", "fingerprint"):
        done = project.run(stage, *fields)
        assert done.returncode == 0, done.stderr
    real, kept = (ShardSet(sorted((project.runs / "shard").glob(f"{kind}-*.tar"))) for kind in ("real", "kept-back"))
    assert (len(real), len(kept)) == (20, 10)
    assert kept.classes == real.classes
    assert not {record["source"] for record in real.records()} & {record["source"] for record in kept.records()}
    probes = read_vectors(project.runs / "fingerprint" / "probes.h5")
    for group in (TRAINED, KEPT_BACK):
        people = [person for person, own in zip(probes.keys, probes.identities, strict=True) if own == group]
        assert sorted(people) == sorted(kept.identities)


SECTION = """
convert-benchmarks:
  image_size: 16
  sources:
    known: {pairs: pairs.tsv, images: faces}
"""


@pytest.mark.long
def test_a_benchmark_of_training_people_is_seen_to_overlap(tiny_run: Any, tmp_path: Path) -> None:
    project = Project.copy_of(tiny_run, tmp_path / "project")
    real = ShardSet(sorted((project.runs / "shard").glob("real-*.tar")))
    photos = [real.record(row)["source"] for row in range(0, len(real), 3)]
    pairs = enumerate(zip(photos[::2], photos[1::2], strict=True))
    lines = [f"{1 - number % 2}\t{first}\t{second}" for number, (first, second) in pairs]
    (project.root / "pairs.tsv").write_text("\n".join(["same\ta\tb", *lines]) + "\n")
    config = project.root / "configs" / "tiny.yaml"
    config.write_text(config.read_text().replace("evaluate: {}", "evaluate: {folds: 2}") + SECTION)
    for stage in ("convert-benchmarks", "fingerprint", "audit"):
        done = project.run(stage)
        assert done.returncode == 0, done.stderr
    overlap = project.summary("audit")["figures"]["overlap"]
    assert overlap["benchmark-known"]["people"] == len(photos) == 10
    assert overlap["benchmark-known"]["in_training"] >= 9
    assert overlap["held-out"]["in_training"] <= overlap["held-out"]["people"]


def test_the_leak_rate_of_a_continuous_range_of_m_is_reported_in_steps() -> None:
    count = 10 * MAX_VALUES
    names = [f"image-{row}" for row in range(count)]
    near = ClosestMatches(names=names, face=names, face_cosine=[0.9] * count, center=names, center_cosine=[0.0] * count)
    people = ClosestMatches(names=["p"], face=["x"], face_cosine=[0.0], center=["x"], center_cosine=[0.0])
    findings = Findings(images=near, people=people, identities=["p"] * count, pixels=[], probes=[], references=count)
    thresholds = Thresholds(
        image_to_face=0.5, image_to_center=0.5, identity_to_face=0.5, identity_to_center=0.5, basis="by test"
    )
    tally = Tally(thresholds, rates={})
    tally.add(findings, asked=[{"m": m} for m in np.linspace(-1, 1, count).tolist()])
    assert len(tally.dropped) == count
    assert tally.leak_rates == {"m": {f"{step / 10:g}": 1.0 for step in range(-10, 11)}}
