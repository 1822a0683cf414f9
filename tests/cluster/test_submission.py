"""What is submitted, when, and only once: the queue of a real Slurm, and what an sbatch in a bad mood does to it."""
# ruff: noqa: N802

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
from collections import Counter
from collections.abc import Iterator

import pytest

from slurm.cluster import ArrayResources, Cluster
from slurm.run_folder import RunFolder
from slurm.run_identity import claim_identity
from slurm.submission.ownership import Ownership, run_comment
from slurm.submission.payload import Payload, payloads
from slurm.submission.slurm_job import SlurmJob, slurm_jobs
from slurm.submission.submit import submit_slurm
from tests.jobs.commands import PROJECT, wait_until

from .commands import ONE_BY_ONE, SECONDS, SITE, ClusterProject
from .virtual_slurm import VirtualSlurm


@pytest.fixture
def closed(fresh: ClusterProject) -> ClusterProject:
    """The partition takes jobs and starts none until `_open`."""
    fresh.slurm.call("scontrol", "update", "PartitionName=normal", "State=DOWN")
    return fresh


@pytest.fixture(autouse=True)
def _reopened(slurm: VirtualSlurm) -> Iterator[None]:
    yield
    _open(slurm)


def _open(slurm: VirtualSlurm) -> None:
    slurm.call("scontrol", "update", "PartitionName=normal", "State=UP")


def test_F10_a_second_submission_submits_nothing_twice_and_takes_no_other_config(closed: ClusterProject) -> None:
    closed.submit("shard")
    (job,) = closed.jobs("shard")
    again = closed.submit("shard")
    assert f"nothing to submit: its jobs are in the queue ({job})" in again.stderr
    assert closed.queue() == {"PENDING": 2}
    refused = closed.run("shard", "shard.shard_images=4", cluster=ONE_BY_ONE)
    assert refused.returncode == 1
    assert f"jobs of an earlier launch are in the queue ({job}), with another config (shard.shard_images)" in (
        refused.stderr
    )
    assert f"scancel {job}" in refused.stderr
    told = closed.status()["shard"]
    assert told["state"] == "queued"
    canceled = closed.run("cancel", cluster=ONE_BY_ONE)
    assert canceled.returncode == 0, canceled.stderr
    closed.wait()
    assert closed.run("status").returncode != 0
    closed.submit("shard")


def test_F42_F45_code_edited_while_jobs_wait_and_remains_of_dead_attempts_do_not_reach_them(
    closed: ClusterProject,
) -> None:
    """submitit saves a result by way of a temporary file, and stumbles over one that a killed attempt left."""
    code = closed.root / "code"
    for package in ("cemiface", "jobs", "shards", "slurm"):
        shutil.copytree(PROJECT / package, code / package, ignore=shutil.ignore_patterns("__pycache__"))
    command = closed.arguments("shard", cluster=ONE_BY_ONE)
    done = subprocess.run(command, cwd=code, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    (code / "jobs" / "shard_faces.py").write_text("raise RuntimeError('edited')\n")
    (job,) = closed.jobs("shard")
    for task in range(2):
        (closed.runs / "shard" / "logs" / "submitit" / f"{job}_{task}_0_result.pkl.save_tmp").write_bytes(b"half")
    _open(closed.slurm)
    closed.wait()
    assert closed.shown(job).count("JobState=COMPLETED") == 2
    assert closed.summary("shard")["images_out"] == 48
    submission = json.loads((closed.runs / "shard" / "submission.json").read_text())
    assert {heartbeat["code"] for heartbeat in closed.heartbeats("shard")} == {submission["code"]}


def test_F22_no_job_waits_forever_for_a_failed_stage_and_the_same_command_resumes(fresh: ClusterProject) -> None:
    config = fresh.root / "configs" / "tiny.yaml"
    config.write_text(config.read_text().partition("train-diffusion:")[0])  # three stages are enough
    broken = [fresh.root / "faces" / "person-9" / f"{number}.jpg" for number in range(30)]
    broken[0].parent.mkdir()
    for path in broken:
        path.touch()
    fresh.submit()
    jobs = {stage: fresh.jobs(stage) for stage in ("shard", "train-embedder", "embed")}
    fresh.wait()
    assert all("JobState=CANCELLED" in fresh.shown(jobs[stage][0]) for stage in ("train-embedder", "embed"))
    told = fresh.status()
    assert told["shard"]["state"] == "failed"
    assert "images are not usable" in told["shard"]["reason"]
    shutil.rmtree(broken[0].parent)
    fresh.submit()
    fresh.wait()
    assert {name: stage["state"] for name, stage in fresh.status().items()} == dict.fromkeys(jobs, "done")


def test_F23_F24_the_real_limit_of_an_array_is_kept_and_every_rank_is_submitted_once(closed: ClusterProject) -> None:
    ranks = 1002
    cluster = Cluster(array=ArrayResources(ranks=ranks, canary_from=None))
    jobs = slurm_jobs(cluster, stage="shard", distributed=False, units=ranks, largest_array=1001)
    assert [job.tasks for job in jobs] == [1000, 2]
    one = SlurmJob(kind="array", first_rank=0, ranks=1, ranks_per_task=1)
    submitted = [_submit(closed, job, ranks=ranks) for job in [*jobs, one]]
    counted = Counter(closed.slurm.call("squeue", "--noheader", "--array", "--format=%A %F").split()[1::2])
    assert [counted[job] for job in submitted] == [1000, 2, 1]
    found = [payload.rank for job in jobs for payload in payloads(job, payload=_payload(closed, ranks=ranks))]
    assert found == list(range(ranks))


def _payload(project: ClusterProject, *, ranks: int) -> Payload:
    return Payload(entry="jobs.launch.entry:main", run=str(project.runs), stage="shard", rank=0, ranks=ranks)


def _submit(project: ClusterProject, job: SlurmJob, *, ranks: int) -> str:
    run = RunFolder(project.runs)
    run.create()
    comment = run_comment(claim_identity(run).id, "shard")
    return submit_slurm(
        payloads(job, payload=_payload(project, ranks=ranks)),
        stage=run.stage("shard"),
        parameters={"time": 1, "comment": comment, "additional_parameters": {"hold": True}},
        code=PROJECT,
        owner=Ownership.of(run),
    )


def test_F23_split_arrays_of_several_ranks_per_task_behind_a_canary_make_the_same_tars(
    fresh: ClusterProject,
) -> None:
    cut = ("shard.shard_images=4", "shard.max_bad_fraction=0.5")
    local = fresh.run("shard", *cut)
    assert local.returncode == 0, local.stderr
    tars, units = fresh.hashes("shard/*.tar"), fresh.summary("shard")["units"]
    fresh.forget("shard")
    packed = f"array: {{ranks: {units}, ranks_per_task: 2, parallel: 4, canary_from: 2}}\n"
    with VirtualSlurm(nodes=1, max_array_size=4) as small:
        done = fresh.run("shard", *cut, cluster=SITE + packed, **small.environment)
        assert done.returncode == 0, done.stderr
        jobs = json.loads((fresh.runs / "shard" / "submission.json").read_text())["jobs"]
        wait_until(lambda: small.call("squeue", "--noheader") == "", what="its queue is empty", seconds=SECONDS)
        told = json.loads(fresh.run("status", "--json", *cut, **small.environment).stdout)["stages"][0]
    assert [job["kind"] for job in jobs] == ["canary"] + ["array"] * (len(jobs) - 1)
    assert [job["ranks"] for job in jobs[1:-1]] == [6] * (len(jobs) - 2)
    assert sum(job["ranks"] for job in jobs[1:]) == units
    assert told["state"] == "done"
    assert fresh.hashes("shard/*.tar") == tars
    assert {heartbeat["rank"] for heartbeat in fresh.heartbeats("shard")} == set(range(units))


SBATCH = """#!/bin/sh
case {mood} in
  refuses) echo "sbatch: error: Batch job submission failed: Invalid account" >&2; exit 1 ;;
  noisy) echo "Welcome to site 4711. You have 12 messages."; exec /usr/bin/sbatch "$@" ;;
  forgets) /usr/bin/sbatch "$@" >/dev/null; echo "sbatch: error: Socket timed out on send/recv operation" >&2; exit 1 ;;
esac
"""


def _moody(project: ClusterProject, mood: str) -> str:
    """A PATH on which sbatch has a mood."""
    folder = project.root / mood
    folder.mkdir()
    (folder / "sbatch").write_text(SBATCH.format(mood=mood))
    (folder / "sbatch").chmod(0o755)
    return f"{folder}:{os.environ['PATH']}"


@pytest.mark.parametrize(("mood", "words"), [("refuses", "Invalid account"), ("forgets", "Socket timed out")])
def test_F25_a_submission_that_failed_or_only_seems_so_leaves_nothing_in_the_queue(
    closed: ClusterProject, mood: str, words: str
) -> None:
    failed = closed.run("shard", cluster=ONE_BY_ONE, PATH=_moody(closed, mood))
    assert failed.returncode == 1
    assert words in failed.stderr
    assert "Traceback" not in failed.stderr
    assert ("was accepted anyway and is now canceled" in failed.stderr) == (mood == "forgets")
    assert not closed.queue()
    closed.submit("shard")
    assert closed.queue() == {"PENDING": 2}


def test_F25_what_a_site_prints_before_the_answer_is_not_taken_for_it(closed: ClusterProject) -> None:
    closed.run("shard", cluster=ONE_BY_ONE, PATH=_moody(closed, "noisy"))
    if not closed.queue():
        closed.submit("shard")  # it was taken back, in doubt
    assert closed.queue() == {"PENDING": 2}
    (job,) = closed.jobs("shard")
    assert f"Comment={run_comment(closed.id, 'shard')}" in closed.shown(job)


def test_F26_without_sacct_a_run_is_submitted_and_its_state_is_known(fresh: ClusterProject) -> None:
    tools = fresh.root / "tools"
    tools.mkdir()
    for name in ("sbatch", "squeue", "scontrol", "scancel", "srun", "bash", "env", "git"):
        found = shutil.which(name)
        assert found
        (tools / name).symlink_to(found)
    done = fresh.run("shard", cluster=ONE_BY_ONE, PATH=str(tools))
    assert done.returncode == 0, done.stderr
    fresh.wait()
    told = json.loads(fresh.run("status", "--json", PATH=str(tools)).stdout)["stages"][0]
    assert (told["name"], told["state"]) == ("shard", "done")
    longer = "train-embedder.epochs=4000"
    assert fresh.run("train-embedder", longer, cluster=ONE_BY_ONE, PATH=str(tools)).returncode == 0
    (job,) = fresh.jobs("train-embedder")
    fresh.wait_for("train-embedder", images=8)
    os.kill(fresh.heartbeats("train-embedder")[0]["pid"], signal.SIGKILL)
    fresh.wait()
    status = fresh.run("status", longer, PATH=str(tools))
    assert status.returncode == 1
    assert "rank 0 of train-embedder lost on 127.0.0.1, exit 137: killed (out of memory?" in status.stdout
    why = fresh.run("why", "train-embedder", "0", longer, PATH=str(tools))
    assert why.returncode == 0, why.stderr
    assert f"Slurm: job {job} is FAILED" in why.stdout
    assert fresh.run("all", longer, cluster=ONE_BY_ONE, PATH=str(tools)).returncode == 0
    assert fresh.jobs("train-embedder") != [job]
    told = json.loads(fresh.run("status", "--json", longer, PATH=str(tools)).stdout)["stages"]
    assert {stage["state"] for stage in told} <= {"done", "queued", "running"}
