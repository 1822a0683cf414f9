"""Ranks on this machine share out its GPUs. There are none here: a script says so in the driver's place."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from jobs.frame.experiment import load_run
from jobs.launch import local_stage
from jobs.launch.local_stage import LocalStage
from slurm.errors import RunError
from slurm.submission.local_job import LocalJob

from ..commands import Project
from ..conftest import TinyRun

LISTED = {number: "".join(f"echo 'GPU {one}: X (UUID: GPU-{one})'\n" for one in range(number)) for number in range(3)}


@pytest.fixture
def project(tiny_run: TinyRun, tmp_path: Path) -> Project:
    return Project.copy_of(tiny_run, tmp_path / "project")


def _machine(folder: Path, *, gpus: int) -> str:
    """PATH of a machine with this number of GPUs."""
    (folder / "bin").mkdir()
    (folder / "bin" / "nvidia-smi").write_text(f"#!/bin/sh\n{LISTED[gpus]}")
    (folder / "bin" / "nvidia-smi").chmod(0o755)
    return f"{folder / 'bin'}:{os.environ['PATH']}"


@pytest.mark.parametrize(
    ("stage", "cluster", "gpus", "told"),
    [
        (
            "train-diffusion",
            "train: {ranks_per_node: 2, gpus: 1}",
            1,
            "cemiface: train-diffusion: train.ranks_per_node: got 2 ranks of one GPU each, but this machine shows 1; "
            "set 1 in the cluster file, or gpus: 0 to use the CPU\n",
        ),
        (
            "train-diffusion",
            "train: {gpus: 1}",
            0,
            "cemiface: train-diffusion: train.gpus: got 1, but this machine shows no GPU; set 0 in the cluster file to "
            "use the CPU\n",
        ),
        (
            "embed",
            "array: {gpus: 1}",
            0,
            "cemiface: embed: array.gpus: got 1, but this machine shows no GPU; set 0 in the cluster file to "
            "use the CPU\n",
        ),
    ],
)
def test_gpus_that_are_not_here_are_told_in_one_line_before_anything_runs(
    project: Project, tmp_path: Path, stage: str, cluster: str, gpus: int, told: str
) -> None:
    project.forget(stage)
    done = project.run(stage, cluster=cluster, PATH=_machine(tmp_path, gpus=gpus))
    assert (done.returncode, done.stderr) == (1, told)
    assert not (project.runs / stage).exists()


@pytest.mark.parametrize(
    ("stage", "cluster"), [("embed", "array: {gpus: 1}"), ("train-diffusion", "train: {gpus: 1, cpus: 1}")]
)
def test_a_rank_that_sees_no_gpu_does_not_compute_on_the_cpu(project: Project, stage: str, cluster: str) -> None:
    project.forget(stage)
    done = project.run(stage, cluster=cluster, CUDA_VISIBLE_DEVICES="0")  # torch sees none under this number
    assert done.returncode == 1
    assert f"{stage}: gpus: got 1, but rank 0 of" in done.stderr
    assert "(CUDA_VISIBLE_DEVICES=0)" in done.stderr
    assert "Traceback" not in done.stderr
    assert [found["state"] for found in project.heartbeats(stage)] == ["failed"]


def _recorded(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, set[str]]]:
    """For each started rank: the GPU that it sees, and those of the ranks that run already."""
    started: list[tuple[str, LocalJob]] = []
    found: list[tuple[str, set[str]]] = []
    start = local_stage.start_local

    def recording(*arguments: Any, **named: Any) -> LocalJob:
        (environment,) = named["environments"]
        gpu = environment["CUDA_VISIBLE_DEVICES"]
        found.append((gpu, {other for other, job in started if not job.ended()}))
        started.append((gpu, start(*arguments, **named)))
        return started[-1][1]

    monkeypatch.setattr(local_stage, "start_local", recording)
    return found


@pytest.mark.parametrize(("shown", "allowed"), [("4,MIG-7", {"4", "MIG-7"}), ("GPU-9", {"GPU-9"})])
def test_ranks_of_an_array_take_turns_on_the_gpus_and_never_share_one(
    project: Project, monkeypatch: pytest.MonkeyPatch, shown: str, allowed: set[str]
) -> None:
    """Sharding asks no GPU for anything, so that it runs here."""
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", shown)
    found = _recorded(monkeypatch)
    project.forget("shard")
    cluster = project.root / "configs" / "gpus.yaml"
    cluster.write_text("array: {ranks: 3, gpus: 1}\n")
    run = load_run(project.root / "configs" / "tiny.yaml", cluster=cluster)
    project.run("shard", cluster="array: {ranks: 1}\n")  # stores the config
    project.undo("shard")
    LocalStage(run, run.stages["shard"]).work()
    assert len(found) == 3
    assert {gpu for gpu, _ in found} == allowed
    assert not any(gpu in others for gpu, others in found)
    assert run.ledger.why_not_finished(run.stages["shard"]) is None


def test_ranks_that_use_the_cpu_see_no_gpu(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1")
    found = _recorded(monkeypatch)
    project.undo("shard")
    run = load_run(project.root / "configs" / "tiny.yaml", cluster=project.root / "configs" / "one_core.yaml")
    LocalStage(run, run.stages["shard"]).work()
    assert found == [("", set())]


def test_each_rank_of_a_training_sees_a_gpu_of_its_own(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "7,MIG-1,5")
    started: list[Any] = []

    def refused(*arguments: Any, **named: Any) -> LocalJob:
        started.extend(named["environments"])
        raise RunError("not here")

    monkeypatch.setattr(local_stage, "start_local", refused)
    cluster = project.root / "configs" / "gpus.yaml"
    cluster.write_text("train: {ranks_per_node: 2, gpus: 1}\n")
    run = load_run(project.root / "configs" / "tiny.yaml", cluster=cluster)
    with pytest.raises(RunError, match="not here"):
        LocalStage(run, run.stages["train-diffusion"]).work()
    assert started == [{"CUDA_VISIBLE_DEVICES": "7"}, {"CUDA_VISIBLE_DEVICES": "MIG-1"}]
