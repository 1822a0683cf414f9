"""Whose a job is, and a chain that lost links, on a real Slurm: the same command submits exactly what is missing."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
from collections.abc import Iterator

import pytest

from tests.jobs.commands import wait_until

from .commands import ONE_BY_ONE, SECONDS, ClusterProject
from .virtual_slurm import VirtualSlurm

THREE = ("shard", "train-embedder", "embed")


@pytest.fixture
def three(fresh: ClusterProject) -> Iterator[ClusterProject]:
    """Three stages; the partition takes jobs and starts none until `_open`."""
    config = fresh.root / "configs" / "tiny.yaml"
    config.write_text(config.read_text().partition("train-diffusion:")[0])
    fresh.slurm.call("scontrol", "update", "PartitionName=normal", "State=DOWN")
    yield fresh
    _open(fresh.slurm)


def _open(slurm: VirtualSlurm) -> None:
    slurm.call("scontrol", "update", "PartitionName=normal", "State=UP")


def _sbatch(project: ClusterProject, script: str) -> str:
    """A PATH on which sbatch is a script."""
    folder = project.root / "tools"
    folder.mkdir(exist_ok=True)
    (folder / "sbatch").write_text(f"#!/bin/sh\n{script}\n")
    (folder / "sbatch").chmod(0o755)
    return f"{folder}:{os.environ['PATH']}"


def _foreign(project: ClusterProject, *options: str) -> str:
    """A job of the same user that is none of the run's."""
    return project.slurm.call("sbatch", "--parsable", "--output=/dev/null", *options, "--wrap=sleep 600")


def _dependency(project: ClusterProject, stage: str) -> str:
    found = re.search(r"Dependency=(\S+)", project.shown(project.jobs(stage)[-1]))
    return found[1] if found else ""


def _all_done(project: ClusterProject) -> None:
    _open(project.slurm)
    project.wait()
    assert {name: stage["state"] for name, stage in project.status().items()} == dict.fromkeys(THREE, "done")


def test_a_copy_of_the_run_folder_owns_no_job_and_becomes_a_run_of_its_own(three: ClusterProject) -> None:
    three.submit()
    jobs = three.queue()
    shutil.copytree(three.root, three.root.parent / "copied", symlinks=True)
    copy = ClusterProject(root=three.root.parent / "copied", slurm=three.slurm)
    canceled = copy.run("cancel", cluster=ONE_BY_ONE)
    assert canceled.returncode == 1
    assert "nothing to cancel" in canceled.stderr
    assert three.queue() == jobs
    assert not any(stage["ranks"] for stage in copy.status().values())
    copy.submit()
    assert three.queue() == {"PENDING": 2 * jobs["PENDING"]}
    assert copy.id != three.id
    canceled = copy.run("cancel", cluster=ONE_BY_ONE)
    assert canceled.returncode == 0, canceled.stderr
    wait_until(lambda: three.queue() == jobs, what="the jobs of the copy are gone", seconds=SECONDS)
    _all_done(three)


def test_a_run_reached_by_a_link_is_the_same_run(three: ClusterProject) -> None:
    three.submit()
    jobs = three.queue()
    (three.root.parent / "link").symlink_to(three.root)
    linked = ClusterProject(root=three.root.parent / "link", slurm=three.slurm)
    again = linked.submit()
    assert "nothing to submit: its jobs are in the queue" in again.stderr
    assert three.queue() == jobs
    assert linked.status()["shard"]["state"] == "queued"
    canceled = linked.run("cancel", cluster=ONE_BY_ONE)
    assert canceled.returncode == 0, canceled.stderr
    assert not three.queue()


def test_a_run_that_was_moved_is_not_launched_beside_its_jobs(three: ClusterProject) -> None:
    three.submit("shard")
    (job,) = three.jobs("shard")
    moved = ClusterProject(root=three.root.parent / "moved", slurm=three.slurm)
    three.root.rename(moved.root)
    refused = moved.run("all", cluster=ONE_BY_ONE)
    assert refused.returncode == 1
    assert f"was moved from {three.runs}, where its jobs in the queue ({job}) work" in refused.stderr
    moved.slurm.call("scancel", job)
    moved.wait()
    moved.submit()
    _all_done(moved)


def test_a_new_run_at_the_path_of_one_that_was_removed_waits_for_the_end_of_its_jobs(three: ClusterProject) -> None:
    three.submit("shard")
    (job,) = three.jobs("shard")
    shutil.rmtree(three.runs)
    refused = three.run("shard", cluster=ONE_BY_ONE)
    assert refused.returncode == 1
    assert f"jobs of another run work in this folder ({job})" in refused.stderr


def test_a_job_of_the_user_that_has_a_recorded_id_or_a_similar_name_is_left_alone(three: ClusterProject) -> None:
    three.submit()
    named = _foreign(three, "--job-name=tiny.shard", "--hold")
    recorded = _foreign(three, "--hold")
    path = three.runs / "embed" / "submission.json"
    record = json.loads(path.read_text())
    record["jobs"][0]["job"] = recorded  # as if Slurm had given the id out again
    path.write_text(json.dumps(record))
    assert recorded not in {rank["job"] for rank in three.status()["embed"]["ranks"]}
    canceled = three.run("cancel", cluster=ONE_BY_ONE)
    assert canceled.returncode == 0, canceled.stderr
    assert three.queue() == {"PENDING": 2}
    assert all("JobState=PENDING" in three.shown(job) for job in (named, recorded))
    three.slurm.call("scancel", named, recorded)


def test_where_a_site_writes_comments_of_its_own_every_job_is_known(three: ClusterProject) -> None:
    rewrites = _sbatch(three, 'exec /usr/bin/sbatch --comment="charged to project-1" "$@"')
    done = three.run("all", cluster=ONE_BY_ONE, PATH=rewrites)
    assert done.returncode == 0, done.stderr
    jobs = three.queue()
    assert "Comment=charged to project-1" in three.shown(three.jobs("shard")[0])
    again = three.run("all", cluster=ONE_BY_ONE, PATH=rewrites)
    assert again.returncode == 0, again.stderr
    assert three.queue() == jobs
    assert three.status()["embed"]["state"] == "queued"
    canceled = three.run("cancel", cluster=ONE_BY_ONE)
    assert canceled.returncode == 0, canceled.stderr
    assert not three.queue()


@pytest.mark.parametrize("accepted", [1, 2])
def test_after_sbatch_refused_the_rest_of_the_chain_is_submitted_behind_the_jobs_that_wait(
    three: ClusterProject, accepted: int
) -> None:
    count = three.root / "count"
    limit = _sbatch(
        three,
        f'echo x >> {count}; [ "$(wc -l < {count})" -le {accepted} ] || '
        '{ echo "sbatch: error: QOSMaxSubmitJobPerUserLimit" >&2; exit 1; }\nexec /usr/bin/sbatch "$@"',
    )
    refused = three.run("all", cluster=ONE_BY_ONE, PATH=limit)
    assert refused.returncode == 1
    assert "QOSMaxSubmitJobPerUserLimit" in refused.stderr
    told = three.run("status", COLUMNS="200").stdout
    left = ", ".join(THREE[accepted:])
    assert f"not submitted, or only in part: {left}; submit what is missing: " in told
    (shard,) = three.jobs("shard")
    three.submit()
    assert three.jobs("shard") == [shard]
    assert [len(three.jobs(stage)) for stage in THREE] == [1, 1, 1]
    assert f"afterok:{shard}" in _dependency(three, "embed")
    _all_done(three)


def test_after_ctrl_c_during_submission_nothing_is_submitted_twice(three: ClusterProject) -> None:
    slow = _sbatch(three, '/usr/bin/sbatch "$@"; code=$?; sleep 600; exit $code')
    launcher = three.start("all", cluster=ONE_BY_ONE, PATH=slow)
    wait_until(lambda: three.queue() == {"PENDING": 2}, what="the first job is accepted", seconds=SECONDS)
    os.killpg(launcher.pid, signal.SIGINT)
    _, errors = launcher.communicate(timeout=SECONDS)
    assert launcher.returncode == 130, errors
    three.submit()
    assert sum(three.queue().values()) == 5
    _all_done(three)


def test_a_task_that_was_canceled_is_submitted_again_beside_the_others(three: ClusterProject) -> None:
    three.submit()
    (shard,) = three.jobs("shard")
    three.slurm.call("scancel", f"{shard}_1")
    three.submit()
    first, second = three.jobs("shard")
    assert first == shard
    assert f"afterok:{shard}_0(" in _dependency(three, "train-embedder")  # the whole array counts as failed
    assert f"afterok:{second}(" in _dependency(three, "train-embedder")
    assert sum(three.queue().values()) == 5
    again = three.submit()
    assert "nothing to submit" in again.stderr
    _all_done(three)
    assert "JobState=COMPLETED" in three.shown(second)


def test_a_stage_that_was_canceled_is_submitted_again_and_what_waited_for_it_too(three: ClusterProject) -> None:
    three.submit()
    canceled = three.run("cancel", "train-embedder", cluster=ONE_BY_ONE)
    assert canceled.returncode == 0, canceled.stderr
    wait_until(lambda: three.queue() == {"PENDING": 2}, what="what waited is gone", seconds=SECONDS)
    three.submit()
    assert sum(three.queue().values()) == 5
    _all_done(three)


def test_all_right_after_cancel_submits_the_ranks_that_are_still_saving_once_more(three: ClusterProject) -> None:
    _open(three.slurm)
    config = three.root / "configs" / "tiny.yaml"
    config.write_text(config.read_text().replace("epochs: 4", "epochs: 400"))
    three.submit()
    three.wait_for("train-embedder", images=16)
    canceled = three.run("cancel", cluster=ONE_BY_ONE)
    assert canceled.returncode == 0, canceled.stderr
    three.submit()
    config.write_text(config.read_text().replace("epochs: 400", "epochs: 4"))
    canceled = three.run("cancel", cluster=ONE_BY_ONE)
    assert canceled.returncode == 0, canceled.stderr
    shutil.rmtree(three.runs / "train-embedder" / "checkpoints", ignore_errors=True)
    three.submit()
    _all_done(three)


@pytest.mark.parametrize("how", ["paused", "stopped"])
def test_a_rank_that_is_told_to_stop_while_the_controller_is_silent_comes_back(three: ClusterProject, how: str) -> None:
    _open(three.slurm)
    config = three.root / "configs" / "tiny.yaml"
    config.write_text(config.read_text().replace("epochs: 4", "epochs: 400"))
    three.submit()
    three.wait_for("train-embedder", images=16)
    (told,) = three.heartbeats("train-embedder")
    if how == "paused":
        three.slurm.pause_controller()
    else:
        three.slurm.stop_controller()
    os.kill(told["pid"], signal.SIGTERM)
    wait_until(
        lambda: "not requeued yet: " in (three.heartbeats("train-embedder")[0].get("reason") or ""),
        what="the heartbeat says why it is not requeued",
        seconds=SECONDS,
    )
    if how == "paused":
        three.slurm.resume_controller()
    else:
        three.slurm.start_controller()
    (job,) = three.jobs("train-embedder")
    wait_until(lambda: "Restarts=1" in three.shown(job), what="the job is requeued", seconds=SECONDS)
    assert three.queue()["PENDING"] >= 2  # what waits for it is still there
    canceled = three.run("cancel", cluster=ONE_BY_ONE)
    assert canceled.returncode == 0, canceled.stderr
    three.wait()


def test_where_requeueing_is_forbidden_the_next_launch_submits_the_link_and_what_waited_for_it(
    three: ClusterProject,
) -> None:
    _open(three.slurm)
    forbids = _sbatch(three, 'exec /usr/bin/sbatch --no-requeue "$@"')
    config = three.root / "configs" / "tiny.yaml"
    config.write_text(config.read_text().replace("epochs: 4", "epochs: 40"))
    done = three.run("all", cluster=ONE_BY_ONE, PATH=forbids)
    assert done.returncode == 0, done.stderr
    three.wait_for("train-embedder", images=16)
    os.kill(three.heartbeats("train-embedder")[0]["pid"], signal.SIGTERM)
    three.wait()
    told = three.status()["train-embedder"]
    assert told["state"] == "stopped"
    assert "not requeued: Slurm forbids it for this job (Requeue=0)" in told["reason"]
    three.submit()
    _all_done(three)
