"""Distributed training over several nodes and tasks: how ranks find each other, and how they leave and come back."""
# ruff: noqa: N802

from __future__ import annotations

import json
import os
import signal
import socket
from typing import Any

from slurm.locks import locked
from slurm.run_folder import StageFolder
from tests.jobs.commands import wait_until

from .commands import SECONDS, SITE, ClusterProject

FOUR_HERE = "train: {ranks_per_node: 4, cpus: 1}\n"
TWO_BY_TWO = SITE + "train: {nodes: 2, ranks_per_node: 2, cpus: 1}\n"
FIVE_MINUTES = SITE + "stop_signal_seconds: 60\ntrain: {nodes: 1, ranks_per_node: 2, cpus: 1, minutes: 5}\n"

NO_REQUEUE = """#!/bin/sh
[ "$1" = requeue ] || exec /usr/bin/scontrol "$@"
echo "Access/permission denied" >&2
exit 1
"""


def _rendezvous(project: ClusterProject) -> dict[str, Any]:
    told: dict[str, Any] = json.loads(StageFolder(project.runs / "train-diffusion").rendezvous.read_text())
    return told


def _losses(project: ClusterProject) -> dict[int, float]:
    lines = (project.runs / "train-diffusion" / "metrics.jsonl").read_text().splitlines()
    return {value["images"]: value["loss"] for value in map(json.loads, lines)}


def _is_bound(squatter: socket.socket, port: int) -> bool:
    """Bind once the last process of the old attempt has let go of the port."""
    try:
        squatter.bind(("", port))
    except OSError:
        return False
    return True


def _attempts(project: ClusterProject) -> list[dict[str, int]]:
    return [heartbeat["attempts"] for heartbeat in project.heartbeats("train-diffusion")]


def test_F40_two_nodes_of_two_ranks_reconnect_after_a_requeue_although_their_port_is_taken(
    project: ClusterProject,
) -> None:
    longer = "train-diffusion.images=800"
    project.forget("train-diffusion")  # it would go on from the shorter one, of another world size
    done = project.run("train-diffusion", longer, cluster=FOUR_HERE)
    assert done.returncode == 0, done.stderr
    local, weights = _losses(project), project.hashes("train-diffusion/*.safetensors")
    project.forget("train-diffusion")
    project.submit("train-diffusion", longer, cluster=TWO_BY_TWO)
    project.wait_for("train-diffusion", images=32)
    first = _rendezvous(project)
    (job,) = project.jobs("train-diffusion")
    project.slurm.call("scancel", "--signal=USR2", job)
    wait_until(lambda: "Restarts=1" in project.shown(job), what="the job is requeued", seconds=SECONDS)
    with socket.socket() as squatter:
        squatter.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        wait_until(lambda: _is_bound(squatter, first["port"]), what="the port of the first attempt is ours")
        squatter.listen()
        project.wait()
    second = _rendezvous(project)
    assert (first["attempt"], second["attempt"]) == (f"{job}/0", f"{job}/1")
    assert first["port"] != second["port"]
    assert {heartbeat["host"] for heartbeat in project.heartbeats("train-diffusion")} == {"127.0.0.1", "127.0.0.2"}
    assert _attempts(project) == [{"stopped": 1}] * 4
    figures = project.summary("train-diffusion")["figures"]
    assert figures["world_size"] == 4
    assert figures["resumed_after_images"] >= 32
    assert project.hashes("train-diffusion/*.safetensors") == weights
    assert _losses(project) == local


def test_F11_F12_F21_a_job_of_five_minutes_saves_on_any_signal_and_comes_back(project: ClusterProject) -> None:
    """submitit takes any signal to a job below ten minutes for a time-out, and does not hear SIGTERM at all."""
    project.forget("train-diffusion")
    project.submit("train-diffusion", "train-diffusion.images=2400", cluster=FIVE_MINUTES)
    (job,) = project.jobs("train-diffusion")
    reached = 0
    for attempt, signals in enumerate((["USR2"], ["TERM"], ["USR1", "TERM"]), start=1):
        project.wait_for("train-diffusion", images=reached + 16)
        for number in signals:
            project.slurm.call("scancel", f"--signal={number}", job)
        wait_until(
            lambda attempt=attempt: f"Restarts={attempt}" in project.shown(job),  # type: ignore[misc]
            what=f"requeue number {attempt}",
            seconds=SECONDS,
        )
        reached = max(heartbeat["images"] for heartbeat in project.heartbeats("train-diffusion"))
    project.wait()
    assert "JobState=COMPLETED" in project.shown(job)
    # On a slow machine the five minutes end as well: one more stop, from which the job comes back like from the others.
    first, second = _attempts(project)
    assert first == second
    assert first.keys() == {"stopped"}
    assert first["stopped"] >= 3
    resumed = project.summary("train-diffusion")["figures"]["resumed_after_images"]
    assert resumed == reached if first["stopped"] == 3 else resumed > reached
    lines = (project.runs / "train-diffusion" / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(line)["images"] for line in lines] == list(range(16, 2401, 16))


def test_F11_a_stop_while_a_rank_waits_for_its_lock_brings_the_job_back(project: ClusterProject) -> None:
    """An earlier attempt, on a node that was taken for lost, may hold the lock for long."""
    project.forget("train-diffusion")
    with locked(StageFolder(project.runs / "train-diffusion").rank_lock(1), stop=None):
        project.submit("train-diffusion", cluster=TWO_BY_TWO)
        (job,) = project.jobs("train-diffusion")
        wait_until(lambda: _waits(project) == [False, True, False, False], what="the lock", seconds=SECONDS)
        project.slurm.call("scancel", "--signal=USR1", job)
        wait_until(lambda: "Restarts=1" in project.shown(job), what="the job is requeued", seconds=SECONDS)
        wait_until(lambda: _waits(project) == [False, True, False, False], what="the lock again", seconds=SECONDS)
    project.wait()
    assert "JobState=COMPLETED" in project.shown(job)
    assert _attempts(project) == [{"stopped": 1}] * 4


def _waits(project: ClusterProject) -> list[bool]:
    """Which ranks wait for their lock, once all that can be are at the meeting."""
    beats = project.heartbeats("train-diffusion")
    notes = [beat.get("note") or "" for beat in beats if beat["state"] == "running"]
    there = sum("3 of 4 are here" in note for note in notes) == 3
    return ["older attempt of this rank" in note for note in notes] if there else []


def test_F18_a_rank_that_dies_again_and_again_before_it_gets_anything_done_gives_up_with_a_reason(
    project: ClusterProject,
) -> None:
    project.forget("train-diffusion")
    one = SITE + "train: {nodes: 1, ranks_per_node: 1, cpus: 1}\n"
    project.submit("train-diffusion", "train-diffusion.images=100000", cluster=one)
    (job,) = project.jobs("train-diffusion")
    for attempt in range(3):
        wait_until(
            lambda attempt=attempt: any(  # type: ignore[misc]
                (heartbeat["restarts"], heartbeat["state"]) == (attempt, "running")
                for heartbeat in project.heartbeats("train-diffusion")
            ),
            what=f"attempt {attempt} at work",
            seconds=SECONDS,
        )
        os.kill(project.heartbeats("train-diffusion")[0]["pid"], signal.SIGKILL)
        project.wait()
        project.slurm.call("scontrol", "requeue", job)  # as after a node failure, by Slurm itself
    project.wait()
    assert "JobState=FAILED" in project.shown(job)
    stage = project.status()["train-diffusion"]
    assert stage["state"] == "failed"
    assert "attempts in a row were lost before they saved anything" in stage["reason"]


def test_F20_without_scontrol_the_work_is_saved_and_the_same_command_resumes(
    project: ClusterProject,
) -> None:
    forbidden = project.root / "bin"
    forbidden.mkdir()
    script = (
        '#!/bin/sh\n[ "$1" = requeue ] || exec /usr/bin/scontrol "$@"\necho "Access/permission denied" >&2\nexit 1\n'
    )
    (forbidden / "scontrol").write_text(script)
    (forbidden / "scontrol").chmod(0o755)
    project.forget("train-diffusion")
    path = f"{forbidden}:{os.environ['PATH']}"
    longer = "train-diffusion.images=1600"
    done = project.run("train-diffusion", longer, cluster=FIVE_MINUTES, PATH=path)
    assert done.returncode == 0, done.stderr
    (job,) = project.jobs("train-diffusion")
    project.wait_for("train-diffusion", images=16)
    project.slurm.call("scancel", "--signal=TERM", job)
    project.wait()
    assert "JobState=FAILED" in project.shown(job)
    assert [heartbeat["exit"] for heartbeat in project.heartbeats("train-diffusion")] == [75, 75]
    why = project.run("why", "train-diffusion", "0", longer).stdout
    assert "not requeued: scontrol refused: Access/permission denied" in why
    told = project.logs("train-diffusion")
    assert "requeue refused" in told
    assert "permission denied" in told
    assert "rerun the same command to resume" in told
    project.submit("train-diffusion", longer, cluster=FIVE_MINUTES)
    project.wait()
    assert project.summary("train-diffusion")["figures"]["resumed_after_images"] >= 16
