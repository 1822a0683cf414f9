"""A run folder that is launched, linked, copied and moved: which run it is, and which jobs are its own."""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from slurm import run_identity
from slurm.run_folder import RunFolder
from slurm.run_identity import claim_identity, read_identity
from slurm.submission.job_record import JobRecord, write_job_record
from slurm.submission.ownership import Ownership, run_comment
from slurm.submission.queue import Task
from slurm.submission.slurm_job import SlurmJob, jobs_again


@pytest.fixture
def folder(tmp_path: Path) -> RunFolder:
    """A run that was launched once."""
    run = RunFolder(tmp_path / "runs" / "demo")
    run.create()
    claim_identity(run)
    return run


def _task(run: RunFolder, **fields: Any) -> Task:
    """A task as a launch of this folder submits it, on a site that keeps no comments."""
    output = str(run.stage("shard").submitit_logs / "%A_%a_0_log.out")
    usual = {"job": "7", "index": 0, "state": "RUNNING", "called": f"{run.root.name}.shard", "output": output}
    return Task(**{**usual, "cluster": "alps", "comment": "(null)", **fields})


def _record(of: RunFolder, **fields: Any) -> None:
    job = SlurmJob(kind="array", first_rank=0, ranks=2, ranks_per_task=1, job="7")
    id_ = read_identity(of).id
    record = JobRecord(ranks=2, submitted=1.0, jobs=(job,), comment=run_comment(id_, "shard"), run=id_, cluster="alps")
    of.stage("shard").root.mkdir(exist_ok=True)
    write_job_record(of.stage("shard"), replace(record, **fields))


def _clone(folder: RunFolder, name: str) -> RunFolder:
    target = folder.root.parent / name
    shutil.copytree(folder.root, target)
    return RunFolder(target)


def test_the_first_launch_gives_a_run_its_id_and_later_ones_keep_it(folder: RunFolder) -> None:
    first = read_identity(folder)
    assert first.id
    assert (claim_identity(folder), first.place, first.owns_jobs) == (first, "here", True)


def test_two_runs_have_two_ids(folder: RunFolder, tmp_path: Path) -> None:
    other = RunFolder(tmp_path / "other")
    other.create()
    assert claim_identity(other).id != read_identity(folder).id


@pytest.mark.parametrize("text", ["", "[]", '{"id": 7}', '{"id": "ab"}', '{"id": "../..", "path": "/"}'])
def test_a_damaged_identity_is_none_and_the_next_launch_makes_another(folder: RunFolder, text: str) -> None:
    folder.identity.write_text(text)
    assert read_identity(folder).id == ""
    assert claim_identity(folder).id == read_identity(folder).id != ""


def test_a_link_to_a_folder_above_is_another_path_to_the_same_run(folder: RunFolder, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "runs")
    linked = RunFolder(tmp_path / "link" / "demo")
    assert read_identity(linked) == read_identity(folder)
    assert claim_identity(linked) == read_identity(folder)


def test_another_mount_of_the_same_folder_is_the_same_run(folder: RunFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the right to mount, one path is made to look like two: no name of it leads to the other."""
    moved = RunFolder(folder.root.parent / "mounted")
    found, there = os.stat(folder.root), json.loads(folder.identity.read_text())
    monkeypatch.setattr(run_identity, "_read", lambda root: there)
    monkeypatch.setattr(run_identity.os, "stat", lambda path: found)
    assert read_identity(moved).place == "here"


def test_a_copy_is_no_longer_the_run_and_gets_an_id_of_its_own(folder: RunFolder) -> None:
    _record(folder)
    copy = _clone(folder, "copy")
    for state in ("running", "done"):
        path = copy.stage("shard").heartbeats / f"{state}.json"
        path.parent.mkdir(exist_ok=True)
        path.write_text(json.dumps({"state": state}))
    found = read_identity(copy)
    assert (found.id, found.place, found.owns_jobs) == (read_identity(folder).id, "copy", False)
    assert Ownership.of(copy).records([copy.stage("shard")]) == {}
    claimed = claim_identity(copy)
    assert claimed.owns_jobs
    assert claimed.id != read_identity(folder).id
    assert not copy.stage("shard").job_record.exists()
    assert [path.stem for path in copy.stage("shard").heartbeats.iterdir()] == ["done"]
    assert read_identity(folder).place == "here"


def test_hard_links_in_place_of_copies_are_a_copy_all_the_same(folder: RunFolder) -> None:
    target = folder.root.parent / "links"
    shutil.copytree(folder.root, target, copy_function=os.link)
    assert read_identity(RunFolder(target)).place == "copy"
    id_ = read_identity(folder).id
    claim_identity(RunFolder(target))
    assert read_identity(folder).id == id_


def test_where_inode_numbers_say_nothing_a_launch_sees_that_a_copy_is_none(
    folder: RunFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "runs")
    monkeypatch.setattr(run_identity.os.path, "realpath", str)
    monkeypatch.setattr(run_identity, "_is_same_folder", lambda one, other: False)
    linked = RunFolder(tmp_path / "link" / "demo")
    assert read_identity(linked).place == "copy"
    assert claim_identity(linked).id == read_identity(folder).id
    assert sorted(path.name for path in folder.root.iterdir()) == ["run.json"]


def test_a_moved_run_keeps_its_id(folder: RunFolder) -> None:
    before = read_identity(folder)
    moved = RunFolder(folder.root.parent / "moved")
    folder.root.rename(moved.root)
    found = read_identity(moved)
    assert (found.id, found.made_at, found.place) == (before.id, folder.root, "moved")
    claimed = claim_identity(moved)
    assert (claimed.id, claimed.made_at, claimed.place) == (before.id, moved.root, "here")


def test_a_copy_of_a_run_that_cannot_be_seen_from_here_owns_no_jobs(folder: RunFolder, tmp_path: Path) -> None:
    facts = json.loads(folder.identity.read_text())
    folder.identity.write_text(json.dumps({**facts, "path": "/no/such/mount/demo", "inode": 1}))
    found = read_identity(folder)
    assert (found.place, found.owns_jobs) == ("unclear", False)
    assert claim_identity(folder).id != facts["id"]


def test_a_job_is_the_runs_by_the_id_in_its_comment(folder: RunFolder) -> None:
    id_ = read_identity(folder).id
    owner = Ownership.of(folder)
    elsewhere = {"called": "x", "output": "/dev/null"}
    assert owner.stage_of(_task(folder, comment=run_comment(id_, "shard"), **elsewhere)) == "shard"
    assert owner.stage_of(_task(folder, comment=f"site=1 {run_comment(id_, 'embed')} x", **elsewhere)) == "embed"
    other = _task(folder, comment=run_comment("0" * 12, "shard"))
    assert owner.stage_of(other) is None
    assert owner.is_intruder(other)
    assert not owner.is_intruder(_task(folder, comment=run_comment("0" * 12, "shard"), **elsewhere))


@pytest.mark.parametrize("comment", ["", "(null)", "charged to project-1"])
def test_without_its_comment_it_is_by_name_output_and_cluster(folder: RunFolder, comment: str) -> None:
    _record(folder)
    owner = Ownership.of(folder, [folder.stage("shard")])
    task = _task(folder, comment=comment)
    assert owner.stage_of(task) == "shard"
    assert owner.stage_of(replace(task, called="demo")) is None
    assert owner.stage_of(replace(task, called="demo2.shard")) is None
    assert owner.stage_of(replace(task, output="/dev/null")) is None
    assert owner.stage_of(replace(task, output=task.output.replace("demo", "demo2"))) is None
    assert owner.stage_of(replace(task, output=str(folder.root / "notes.txt"))) is None
    assert owner.stage_of(replace(task, cluster="jura")) is None


def test_neither_comment_nor_output_of_the_original_makes_a_job_that_of_a_copy(folder: RunFolder) -> None:
    id_ = read_identity(folder).id
    copy = _clone(folder, "copy")
    for launched in (False, True):
        if launched:
            claim_identity(copy)
        owner = Ownership.of(copy)
        assert owner.stage_of(_task(folder)) is None
        assert owner.stage_of(_task(folder, comment=run_comment(id_, "shard"))) is None
        assert owner.stage_of(_task(copy)) == "shard"


def test_jobs_of_a_moved_run_are_its_own_but_not_those_of_a_new_run_in_its_old_place(folder: RunFolder) -> None:
    id_ = read_identity(folder).id
    moved = RunFolder(folder.root.parent / "moved")
    folder.root.rename(moved.root)
    assert Ownership.of(moved).stage_of(_task(folder)) == "shard"
    assert Ownership.of(moved).stage_of(_task(folder, comment=run_comment(id_, "shard"))) == "shard"
    folder.create()
    claim_identity(folder)
    assert Ownership.of(moved).stage_of(_task(folder)) is None


def test_jobs_and_records_of_a_run_of_an_older_version_stay_its_own(tmp_path: Path) -> None:
    """They have a digest of the path in place of the id."""
    run = RunFolder(tmp_path / "demo")
    run.create()
    comment = next(iter(Ownership.of(run).ids))
    task = _task(run, comment=run_comment(comment, "shard"))
    _record(run, run="", comment=run_comment(comment, "shard"))
    for launched in (False, True):
        if launched:
            assert claim_identity(run).id != comment
        owner = Ownership.of(run)
        assert owner.stage_of(task) == "shard"
        assert owner.records([run.stage("shard")])
    copy = _clone(run, "copy")
    claim_identity(copy)
    _record(copy, run="", comment=run_comment(comment, "shard"))
    assert Ownership.of(copy).records([copy.stage("shard")]) == {}
    assert Ownership.of(copy).stage_of(task) is None


@pytest.mark.parametrize("each", [1, 2, 4])
@pytest.mark.parametrize("largest", [3, 1001])
def test_ranks_without_a_task_are_submitted_again_and_no_living_one(each: int, largest: int) -> None:
    ranks = 23
    blocks = -(-ranks // each)
    for pattern in range(64):
        lost = {block for block in range(blocks) if pattern >> (block % 6) & 1}
        alive = {rank for rank in range(ranks) if rank // each not in lost and rank // each % 5}
        without = {rank for rank in range(ranks) if rank // each in lost}
        jobs = jobs_again(without, alive=alive, ranks=ranks, ranks_per_task=each, largest_array=largest)
        covered = [rank for job in jobs for rank in range(job.first_rank, job.first_rank + job.ranks)]
        assert len(covered) == len(set(covered))
        assert without <= set(covered) <= set(range(ranks)) - alive
        assert all(job.tasks <= largest - 1 for job in jobs)
        assert all(job.first_rank % each == 0 for job in jobs)
