"""The cluster file: what it may say, and what sbatch is told of it."""
# ruff: noqa: N802

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from slurm.cluster import ArrayResources, Cluster, TrainResources, cores
from slurm.run_folder import StageFolder
from slurm.submit import Payload, slurm_parameters

STAGE = StageFolder(Path("runs/demo/generate"))


@pytest.mark.parametrize("field", ["partition", "account", "qos", "constraint"])
@pytest.mark.parametrize(
    "text",
    ["a\ntouch /tmp/x #", "a\r", "gpu\n", "\tgpu", "a b", "$(id)", "`id`", "a;b", "'", '"', "\\", "", "g\u00fcl", "\0"],
)
def test_B50_a_word_that_could_leave_its_line_is_refused(field: str, text: str) -> None:
    with pytest.raises(ValidationError):
        Cluster.model_validate({field: text})


@pytest.mark.parametrize("text", ["gpu", "gpu_a100,gpu_h100", "a100&nvlink", "a100|h100", "project-12.x", "*"])
def test_words_of_real_sites_are_taken(text: str) -> None:
    assert Cluster(constraint=text).constraint == text


@pytest.mark.parametrize(
    "fields",
    [
        {"executor": "pbs"},
        {"array": {"ranks": 0}},
        {"array": {"ranks": 1001}},
        {"array": {"parallel": 0}},
        {"array": {"minutes": 0}},
        {"array": {"memory_gb": "64G"}},
        {"array": {"gpus": 2}},
        {"array": {"cpus": -1}},
        {"array": {"rank": 4}},
        {"train": {"nodes": 0}},
        {"train": {"ranks_per_node": True}},
        {"stop_signal_seconds": 0},
        {"setup": "module load cuda"},
        {"time": 5},
    ],
)
def test_B51_impossible_resources_are_refused(fields: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        Cluster.model_validate(fields, strict=True)


def test_without_numbers_the_machine_decides() -> None:
    assert Cluster().array_ranks() == min(cores(), 8)
    assert Cluster(train=TrainResources(ranks_per_node=2 * cores())).train_cpus() == 1
    assert TrainResources(nodes=3, ranks_per_node=4).world_size == 12


def test_a_job_after_another_is_removed_when_that_one_failed() -> None:
    extra = slurm_parameters(STAGE, cluster=Cluster(), distributed=False, after="17")["additional_parameters"]
    assert extra["dependency"] == "afterok:17"
    assert extra["kill-on-invalid-dep"] == "yes"
    first = slurm_parameters(STAGE, cluster=Cluster(), distributed=False)["additional_parameters"]
    assert "dependency" not in first
    assert "requeue" in first


def test_an_array_job_asks_for_one_rank_per_task() -> None:
    array = ArrayResources(ranks=64, parallel=16, gpus=1, cpus=8, memory_gb=64, minutes=30)
    cluster = Cluster(executor="slurm", partition="gpu", array=array, setup=("module load cuda",))
    parameters = slurm_parameters(STAGE, cluster=cluster, distributed=False)
    wanted = {
        "job_name": "demo.generate",
        "partition": "gpu",
        "nodes": 1,
        "ntasks_per_node": 1,
        "cpus_per_task": 8,
        "gpus_per_node": 1,
        "mem": "64GB",
        "time": 30,
        "array_parallelism": 16,
        "signal_delay_s": 180,
        "setup": ["module load cuda"],
    }
    assert {name: parameters[name] for name in wanted} == wanted
    assert "account" not in parameters


def test_a_distributed_job_asks_for_one_task_per_rank() -> None:
    train = TrainResources(nodes=2, ranks_per_node=4, gpus_per_node=4, cpus=8, memory_gb=256, minutes=720)
    parameters = slurm_parameters(STAGE, cluster=Cluster(train=train), distributed=True)
    wanted = {"nodes": 2, "ntasks_per_node": 4, "gpus_per_node": 4, "cpus_per_task": 8, "mem": "256GB", "time": 720}
    assert {name: parameters[name] for name in wanted} == wanted
    assert "array_parallelism" not in parameters


def test_a_payload_calls_the_entry_it_names_with_itself() -> None:
    payload = Payload(entry="builtins:print", run="runs/demo", stage="generate", rank=0, ranks=1)
    payload()
    assert payload.checkpoint().function is payload
