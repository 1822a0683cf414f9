"""What is not audited, not passed, not the bytes that were judged, or real, is not published."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from jobs.config import load_run_folder
from jobs.publish_set import passed_verdict
from jobs.stage import Run
from shards.tar_reader import Sample, read_tar
from slurm.errors import RunError

from .commands import Project, flip_a_bit, sha256

WISH = ("identity", "index", "m")  # what a refilled image shares with the dropped one


@pytest.fixture
def copied(tiny_run: Any, tmp_path: Path) -> Run:
    """A finished run, free to be changed."""
    folder = tmp_path / "runs" / "tiny"
    shutil.copytree(tiny_run.folder, folder)
    config = yaml.safe_load((folder / "config.yaml").read_text())
    (folder / "config.yaml").write_text(yaml.safe_dump(config | {"root": str(tmp_path)}))
    shutil.copytree(tiny_run.config.parent.parent / "faces", tmp_path / "faces")
    return load_run_folder(folder)


def _edit_verdict(run: Run, change: Callable[[dict[str, Any]], None]) -> None:
    path = run.stage_folder("audit").output("verdict.json")
    verdict = json.loads(path.read_text())
    change(verdict)
    path.write_text(json.dumps(verdict))


def test_the_verdict_of_a_good_run_is_taken(copied: Run) -> None:
    verdict = passed_verdict(copied)
    assert verdict.passed
    assert verdict.images == 16
    assert verdict.judged == {
        path.name: sha256(path) for path in copied.stage_folder("generate").root.glob("synthetic-*.tar")
    }


def test_a_missing_or_failed_verdict_is_refused(copied: Run) -> None:
    _edit_verdict(copied, lambda verdict: verdict.update(passed=False))
    with pytest.raises(RunError, match="publish: the audit failed: 0 of 16 images"):
        passed_verdict(copied)
    copied.stage_folder("audit").output("verdict.json").unlink()
    with pytest.raises(RunError, match="the audit left no verdict; run `cemiface audit` first"):
        passed_verdict(copied)


def test_a_verdict_about_other_bytes_is_refused(copied: Run) -> None:
    """One bit of a judged tar is another; its size, its marker and the summary are as they were."""
    flip_a_bit(copied.stage_folder("generate").output("synthetic-00001.tar"))
    with pytest.raises(RunError, match=r"about other bytes than synthetic-00001.tar; run `cemiface audit` again"):
        passed_verdict(copied)


def test_a_verdict_about_more_or_fewer_tars_is_refused(copied: Run) -> None:
    _edit_verdict(copied, lambda verdict: verdict["judged"].update({"synthetic-00002.tar": "00"}))
    with pytest.raises(RunError, match=r"other bytes than synthetic-00002.tar"):
        passed_verdict(copied)


def test_a_private_shard_is_refused_even_with_a_verdict_about_it(copied: Run) -> None:
    private = copied.stage_folder("shard").output("real-00000.tar")
    shutil.copy(private, copied.stage_folder("generate").output("synthetic-00000.tar"))
    _edit_verdict(copied, lambda verdict: verdict["judged"].update({"synthetic-00000.tar": sha256(private)}))
    with pytest.raises(RunError, match=r"synthetic-00000.tar is real-00000.tar, a private shard of real faces"):
        passed_verdict(copied)


def test_dropped_images_are_replaced_by_others_that_pass_and_the_rest_is_kept(tiny_run: Any, tmp_path: Path) -> None:
    """Strict enough to drop some of the images: the others are published byte for byte, with new ones in between."""
    project = Project.copy_of(tiny_run, tmp_path / "project")
    strict = ("audit.false_alarms=0.7", "refill={attempts: 3}")
    for stage in ("audit", "refill", "publish"):
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

    published = project.runs / "publish" / "tiny-set"
    kept = {key: sample for key, sample in made.items() if key not in dropped}
    assert _samples(published) == kept | refilled
    assert json.loads((published / "audit.json").read_text())["dropped"] == sorted(dropped)
    summary = project.summary("publish")
    assert summary["images_out"] == len(kept) + len(refilled)
    assert summary["counts"].get("refilled", 0) == len(refilled)


def _samples(folder: Path) -> dict[str, Sample]:
    return {sample.key: sample for tar in sorted(folder.glob("*.tar")) for sample in read_tar(tar)}
