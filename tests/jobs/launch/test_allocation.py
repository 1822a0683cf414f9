"""A launch on this machine, inside a job of Slurm that is not ours: an interactive allocation, a notebook's job."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from slurm.ranks.worker import leave_allocation, slurm_job, this_worker

from ..commands import PROJECT, SECONDS, Project, wait_until
from ..many_ranks import fake_tool

ALLOCATION = {
    "SLURM_JOB_ID": "99",
    "SLURM_JOBID": "99",
    "SLURM_ARRAY_JOB_ID": "98",
    "SLURM_ARRAY_TASK_ID": "1",
    "SLURM_RESTART_COUNT": "4",
    "SLURM_NTASKS": "7",
    "SLURM_PROCID": "0",
    "SLURM_LOCALID": "3",
    "SLURM_JOB_NODELIST": "c[1-7]",
    "SLURM_JOB_NUM_NODES": "7",
    "SLURMD_NODENAME": "c1",
    "SUBMITIT_EXECUTOR": "slurm",
}
STAGE, LONGER = "train-diffusion", "train-diffusion.images=512"
TWO_RANKS = "array: {ranks: 1}\ntrain: {ranks_per_node: 2, cpus: 1}\n"
SHOWN = "JobId=98 JobState=RUNNING Restarts=4"


@pytest.fixture
def project(tiny_run: Any, tmp_path: Path) -> Project:
    return Project.copy_of(tiny_run, tmp_path / "project")


@pytest.fixture
def asked(tmp_path: Path) -> list[Path]:
    """What the commands of Slurm were asked, which are scripts here."""
    return [fake_tool(tmp_path / "bin", name, answer=SHOWN) for name in ("scontrol", "squeue", "scancel", "sacct")]


def _variables(pid: int) -> dict[str, str]:
    lines = Path(f"/proc/{pid}/environ").read_bytes().decode().split("\0")
    return dict(line.split("=", 1) for line in lines if "=" in line)


@pytest.mark.parametrize("cluster", [None, TWO_RANKS], ids=["one rank", "two ranks"])
def test_a_stopped_training_starts_again_as_another_attempt_and_the_outer_job_is_let_alone(
    project: Project, tmp_path: Path, asked: list[Path], cluster: str | None
) -> None:
    project.forget(STAGE)
    path = f"{tmp_path / 'bin'}:{os.environ['PATH']}"
    launcher = project.start(STAGE, LONGER, cluster=cluster, PATH=path, **ALLOCATION)
    wait_until(lambda: project.trained(STAGE) >= 16, what="16 images")
    first = project.heartbeats(STAGE)
    left = {name for name in _variables(first[-1]["pid"]) if name.startswith("SLURM")}
    os.kill(first[-1]["pid"], signal.SIGTERM)
    _, output = launcher.communicate(timeout=SECONDS)
    assert launcher.returncode == 0, output
    second = project.heartbeats(STAGE)
    assert left == set()
    assert [path.name for path in asked if path.exists()] == []
    assert first[0]["job"] != second[0]["job"]
    assert not {heartbeat["job"] for heartbeat in (*first, *second)} & {"98", "98_1", "99"}
    assert {heartbeat["restarts"] for heartbeat in second} == {0}
    assert [heartbeat["attempts"] for heartbeat in second] == [{"stopped": 1}] * len(second)


def test_canceling_a_local_launch_lets_the_outer_job_alone(project: Project, tmp_path: Path, asked: list[Path]) -> None:
    project.forget(STAGE)
    path = f"{tmp_path / 'bin'}:{os.environ['PATH']}"
    launcher = project.start(STAGE, LONGER, PATH=path, **ALLOCATION)
    wait_until(lambda: project.trained(STAGE) >= 16, what="16 images")
    project.run("cancel", PATH=path, **ALLOCATION)
    _, output = launcher.communicate(timeout=SECONDS)
    assert launcher.returncode == 130, output
    told = "".join(
        path.read_text() for path in asked if path.name in ("scontrol.asked", "scancel.asked") if path.exists()
    )
    assert told == ""


def test_a_rank_run_by_hand_is_no_rank_of_the_outer_job(project: Project) -> None:
    before = project.hashes("generate/*.tar")
    project.undo("generate")
    assert project.run("generate").returncode == 0  # it needs to have been launched here once
    project.undo("generate")
    (project.runs / "generate" / "beats").mkdir()
    (project.runs / "generate" / "beats" / "00000.json").write_text(
        '{"rank": 0, "host": "h", "pid": 1, "state": "done", "time": 0, "ranks": 1}'
    )
    done = subprocess.run(
        [sys.executable, "-m", "jobs", "run-rank", str(project.root / "configs" / "tiny.yaml"), "generate", "0"],
        cwd=PROJECT,
        env=os.environ | ALLOCATION,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    (heartbeat,) = project.heartbeats("generate")
    assert (heartbeat["job"], heartbeat["restarts"], heartbeat["state"]) == (None, 0, "done")
    assert project.hashes("generate/*.tar") == before


def test_the_variables_of_a_job_are_forgotten_and_those_of_the_site_are_not(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {**ALLOCATION, "SLURM_CONF": "/etc/site.conf", "SUBMITIT_LOCAL_JOB_ID": "5"}.items():
        monkeypatch.setenv(name, value)
    leave_allocation(keep=["SUBMITIT_"])
    assert {name for name in os.environ if name.startswith("SLURM")} == {"SLURM_CONF"}
    assert slurm_job() is None
    assert this_worker(2).job == "5"
    leave_allocation()
    assert this_worker(2).job is None
