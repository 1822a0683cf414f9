"""What is not audited, not passed, not the bytes that were judged, or real, is not published."""

from __future__ import annotations

import copy
import json
import shutil
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from jobs.frame.errors import ConfigError
from jobs.frame.experiment import load_run_folder
from jobs.frame.run import Run
from jobs.stages.publish.plan import PublishSet, check_launch
from jobs.stages.publish.work import passed_verdict
from jobs.stages.shared.gate.lineage import own_faces
from shards.privacy.lineage import DataSet
from shards.tars.reader import Sample, read_tar
from shards.tars.writer import TarWriter
from slurm.errors import RunError
from slurm.files import publishing

from ..commands import Project, flip_a_bit, sha256
from ..one_rank import edit_config, plan_stage, record_again, work_alone

AUDIT = {"false_alarms": 0.3, "max_dropped_fraction": 1.0}  # of the tiny run


def _edit_verdict(run: Run, change: Callable[[dict[str, Any]], None]) -> None:
    path = run.stage_folder("settle").output("verdict.json")
    verdict = json.loads(path.read_text())
    change(verdict)
    path.write_text(json.dumps(verdict))
    record_again(run, "settle", "verdict.json")


def test_the_verdict_of_a_good_run_is_taken(copied: Run) -> None:
    verdict = passed_verdict(copied)
    assert verdict.passed
    assert verdict.images == 16
    assert verdict.judged == {
        path.name: sha256(path) for path in copied.stage_folder("settle").root.glob("synthetic-*.tar")
    }


def test_a_verdict_of_an_older_version_asks_for_a_new_audit(copied: Run) -> None:
    _edit_verdict(copied, lambda verdict: verdict.pop("lineage"))
    with pytest.raises(RunError, match=r"older version and does not say .*; remove .*fingerprint and .*audit, and run"):
        passed_verdict(copied)


def test_a_set_whose_nets_saw_faces_that_the_audit_did_not_is_refused_unless_accepted(copied: Run) -> None:
    unseen = {"data": asdict(DataSet(name="web faces")), "held_against": None}
    _edit_verdict(copied, lambda verdict: verdict["lineage"].append(unseen))
    with pytest.raises(RunError, match=r"does not compare the set with: web faces; .*accept_unchecked: \["):
        passed_verdict(copied)
    edit_config(copied.folder.root, audit={**AUDIT, "accept_unchecked": ["other faces"]})
    with pytest.raises(RunError, match="web faces"):
        passed_verdict(load_run_folder(copied.folder.root))
    edit_config(copied.folder.root, audit={**AUDIT, "accept_unchecked": ["web faces"]})
    accepted = load_run_folder(copied.folder.root)
    assert passed_verdict(accepted).passed


def test_a_set_without_answers_is_not_launched_and_older_configs_are_still_read(copied: Run) -> None:
    fields = copied.section(PublishSet).model_dump(mode="json", exclude={"governance"})
    edit_config(copied.folder.root, publish=fields | {"consent": "Drawn by a program."})
    older = load_run_folder(copied.folder.root)
    with pytest.raises(ConfigError, match=r"^publish.governance: missing; allowed: real_data, .* `cemiface explain"):
        check_launch(older)
    as_it_was = {"set_name", "version", "creator", "license", "consent"}
    assert older.section(PublishSet).fingerprint().keys() == as_it_was


def test_every_set_of_real_faces_needs_its_terms(copied: Run) -> None:
    check_launch(copied)
    given = copied.section(PublishSet).model_dump(mode="json")
    given["governance"]["real_data"][0]["name"] = "other faces"
    edit_config(copied.folder.root, publish=given)
    own = own_faces(copied).name
    told = f"publish.governance.real_data: no terms of {own}; add an entry"
    changed = load_run_folder(copied.folder.root)
    with pytest.raises(ConfigError, match=told):
        check_launch(changed)
    shutil.rmtree(copied.stage_folder("publish").root)
    plan_stage(changed, "publish")
    with pytest.raises(ConfigError, match=told):
        work_alone(changed, "publish")
    assert not list(copied.stage_folder("publish").root.rglob("*.tar"))
    given["governance"]["real_data"] += copy.deepcopy(given["governance"]["real_data"])
    edit_config(copied.folder.root, publish=given)
    with pytest.raises(ConfigError, match=r"publish.governance.real_data: got 'other faces' twice"):
        load_run_folder(copied.folder.root)


def test_to_accept_a_gap_makes_nothing_stale(copied: Run) -> None:
    edit_config(copied.folder.root, audit={**AUDIT, "accept_unchecked": ["web faces"]})
    accepted = load_run_folder(copied.folder.root)
    assert {accepted.ledger.why_not_finished(stage) for stage in accepted.chain} == {None}


def test_the_training_faces_are_held_against_by_their_content(copied: Run) -> None:
    verdict = passed_verdict(copied)
    assert verdict.lineage is not None
    (own,) = verdict.lineage
    assert (own.held_against, own.data.images, own.data.identities) == ("content", 30, 5)
    assert own.data.name == f"unnamed set {str(own.data.sha256)[:12]}"


def test_a_missing_or_failed_verdict_is_refused(copied: Run) -> None:
    _edit_verdict(copied, lambda verdict: verdict.update(passed=False))
    with pytest.raises(RunError, match="publish: the audit failed: 0 of 16 images"):
        passed_verdict(copied)
    copied.stage_folder("settle").output("verdict.json").unlink()
    with pytest.raises(RunError, match=r"settle/verdict.json: is missing; run `cemiface settle` again"):
        passed_verdict(copied)


def test_a_verdict_about_other_bytes_is_refused(copied: Run) -> None:
    """One bit of a judged tar is another, and the summary is about the new bytes."""
    flip_a_bit(copied.stage_folder("settle").output("synthetic-00001.tar"))
    record_again(copied, "settle", "synthetic-00001.tar")
    with pytest.raises(
        RunError, match=r"sha256 of settle/synthetic-00001.tar differs from .*; remove it and run settle again"
    ):
        passed_verdict(copied)


def test_a_verdict_about_more_or_fewer_tars_is_refused(copied: Run) -> None:
    _edit_verdict(copied, lambda verdict: verdict["judged"].update({"synthetic-00002.tar": "00"}))
    with pytest.raises(RunError, match=r"sha256 of settle/synthetic-00002.tar differs"):
        passed_verdict(copied)
    _edit_verdict(copied, lambda verdict: verdict.update(judged={}))
    with pytest.raises(RunError, match=r"sha256 of settle/synthetic-00000.tar differs"):
        passed_verdict(copied)


def test_a_private_shard_is_refused_even_with_a_verdict_about_it(copied: Run) -> None:
    private = copied.stage_folder("shard").output("real-00000.tar")
    shutil.copy(private, copied.stage_folder("settle").output("synthetic-00000.tar"))
    record_again(copied, "settle", "synthetic-00000.tar")
    _edit_verdict(copied, lambda verdict: verdict["judged"].update({"synthetic-00000.tar": sha256(private)}))
    with pytest.raises(RunError, match=r"synthetic-00000.tar is real-00000.tar, a private shard of real faces"):
        passed_verdict(copied)


def test_a_tar_with_the_mark_of_private_ones_is_neither_settled_nor_published(copied: Run) -> None:
    """Records and manifest are those of a synthetic set; the headers are those of private tars."""
    for stage, later in (("generate", "settle"), ("settle", "publish")):
        path = copied.stage_folder(stage).output("synthetic-00000.tar")
        samples = list(read_tar(path))
        with publishing(path, replace=True) as file:
            tar = TarWriter(file, private=True)
            for sample in samples:
                tar.add(sample.key, jpg=sample.jpg, record=sample.record)
            tar.close()
        record_again(copied, stage, path.name)
        judge = copied.stage_folder("audit" if stage == "generate" else stage)
        verdict = json.loads(judge.output("verdict.json").read_text())
        verdict["judged"][path.name] = sha256(path)
        judge.output("verdict.json").write_text(json.dumps(verdict))
        record_again(copied, judge.name, "verdict.json")
        shutil.rmtree(copied.stage_folder(later).root / "done")
        plan_stage(copied, later)
        with pytest.raises(RunError, match=rf"{stage}/synthetic-00000.tar: its headers have the mark of private tars"):
            work_alone(copied, later)


def test_dropped_images_are_replaced_by_others_that_pass_and_the_rest_is_kept(tiny_run: Any, tmp_path: Path) -> None:
    """Strict enough to drop some of the images: the others are published byte for byte, with new ones in between."""
    project = Project.copy_of(tiny_run, tmp_path / "project")
    strict = ("audit.false_alarms=0.7", "refill={attempts: 3}")
    for stage in ("audit", "refill", "settle", "publish"):
        done = project.run(stage, *strict)
        assert done.returncode == 0, done.stderr
    verdict = json.loads((project.runs / "audit" / "verdict.json").read_text())
    dropped = set(verdict["dropped"])
    given_up = {leak["key"] for leak in verdict["leaks"] if leak["reason"].startswith("identity")}
    assert 0 < len(dropped) < 16

    made, refilled = (_samples(project.runs / stage) for stage in ("generate", "refill"))
    assert refilled.keys() <= dropped - given_up
    counts = project.summary("refill")["counts"]
    assert counts["refilled"] == len(refilled)
    assert sum(counts.values()) == len(dropped)
    for key, sample in refilled.items():
        asked, given = made[key].record, sample.record
        assert [given[field] for field in ("identity", "index", "m")] == [
            asked[field] for field in ("identity", "index", "m")
        ]
        assert given["seed"] != asked["seed"]
        assert 1 <= given["attempt"] <= 3

    settled = json.loads((project.runs / "settle" / "verdict.json").read_text())
    assert set(settled["refilled"]) <= refilled.keys()
    published = project.runs / "publish" / "tiny-set"
    kept = {key: sample for key, sample in (made | refilled).items() if key not in settled["dropped"]}
    assert _samples(published) == kept
    assert kept.keys() & dropped == set(settled["refilled"])
    audit, manifest = (json.loads((published / f"{name}.json").read_text()) for name in ("audit", "manifest"))
    assert audit["judged"] == {shard["name"]: shard["sha256"] for shard in manifest["shards"]}
    assert made.keys() - set(audit["dropped"]) == kept.keys()
    assert audit["refilled"] == settled["refilled"]
    people = {sample.record["identity"] for sample in kept.values()}
    assert f"| identities | {len(people)} |" in (published / "README.md").read_text()
    for stage in ("settle", "publish"):
        summary = project.summary(stage)
        assert summary["images_out"] == len(kept), stage
        assert summary["counts"].get("refilled", 0) == len(settled["refilled"]), stage
        assert sum(summary["counts"].values()) == summary["images_in"] == 16, stage


def _samples(folder: Path) -> dict[str, Sample]:
    return {sample.key: sample for tar in sorted(folder.glob("*.tar")) for sample in read_tar(tar)}
