"""The cluster file: what it accepts, and which resources each stage gets."""
# ruff: noqa: N802

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from slurm.cluster import ArrayResources, Cluster, TrainResources, cores

EVIL = ["a\ntouch /tmp/x #", "a\r", "gpu\n", "\tgpu", "\0"]


@pytest.mark.parametrize("field", ["partition", "account", "qos", "constraint", "exclude"])
@pytest.mark.parametrize("text", [*EVIL, "a b", "$(id)", "`id`", "a;b", "'", '"', "\\", "", "g\u00fcl"])
def test_B50_a_value_that_could_change_the_script_is_refused(field: str, text: str) -> None:
    with pytest.raises(ValidationError):
        Cluster.model_validate({field: text})
    with pytest.raises(ValidationError):
        ArrayResources.model_validate({field: text})


@pytest.mark.parametrize("text", EVIL)
def test_B50_shell_lines_and_variables_of_the_site_stay_on_their_line(text: str) -> None:
    for fields in ({"setup": [text]}, {"environment": {"NAME": text}}, {"environment": {text: "1"}}):
        with pytest.raises(ValidationError):
            Cluster.model_validate(fields)


@pytest.mark.parametrize("name", ["A B", "A=1;", "1A", "", "A-B", "$A"])
def test_B50_a_variable_needs_a_name_that_the_shell_accepts(name: str) -> None:
    with pytest.raises(ValidationError):
        Cluster.model_validate({"environment": {name: "1"}})


@pytest.mark.parametrize(
    "text", ["gpu", "gpu_a100,gpu_h100", "a100&nvlink", "a100|h100", "project-12.x", "*", "n[1-3]"]
)
def test_values_of_real_sites_are_accepted(text: str) -> None:
    assert Cluster(constraint=text).constraint == text


@pytest.mark.parametrize(
    "fields",
    [
        {"executor": "pbs"},
        {"array": {"ranks": 0}},
        {"array": {"parallel": 0}},
        {"array": {"ranks_per_task": 0}},
        {"array": {"canary_from": 1}},
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


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"array": {"minutes": 6}}, "array.minutes: got 6 with stop_signal_seconds: 180; allowed: at least 7"),
        ({"train": {"minutes": 20}, "stop_signal_seconds": 600}, "train.minutes: got 20 .* allowed: at least 21"),
        ({"stages": {"embed": {"minutes": 5}}}, "stages.embed.minutes: got 5"),
    ],
)
def test_jobs_that_would_be_stopped_before_half_of_their_time_are_refused(fields: dict[str, Any], message: str) -> None:
    """They would start over until they are given up."""
    with pytest.raises(ValidationError, match=message):
        Cluster.model_validate({"executor": "slurm", **fields})
    Cluster.model_validate({"executor": "local", **fields})  # local ranks have no time limit


def test_the_shortest_time_that_is_more_than_twice_the_signals_is_taken() -> None:
    assert Cluster.model_validate({"executor": "slurm", "array": {"minutes": 7}}).array.minutes == 7


def test_without_numbers_the_cores_of_the_machine_count() -> None:
    cluster = Cluster(train=TrainResources(ranks_per_node=2 * cores()))
    assert cluster.of_array("generate").world() == min(cores(), 8)
    assert cluster.threads(cluster.of_array("generate")) == 1
    assert cluster.threads(cluster.of_train("train-diffusion")) == 1
    assert TrainResources(nodes=3, ranks_per_node=4).world() == 12


def test_the_most_specific_section_wins() -> None:
    cluster = Cluster.model_validate(
        {
            "partition": "gpu",
            "account": "everywhere",
            "array": {"minutes": 30, "account": "arrays"},
            "stages": {"evaluate": {"partition": "cpu", "ranks": 3}, "train-diffusion": {"nodes": 4, "qos": "long"}},
        }
    )
    evaluate, other = cluster.of_array("evaluate"), cluster.of_array("audit")
    assert (evaluate.partition, evaluate.account, evaluate.ranks, evaluate.minutes) == ("cpu", "arrays", 3, 30)
    assert (other.partition, other.account, other.ranks, other.minutes) == ("gpu", "arrays", None, 30)
    train = cluster.of_train("train-diffusion")
    assert (train.partition, train.account, train.qos, train.nodes) == ("gpu", "everywhere", "long", 4)
    assert cluster.of_train("train-recognition").nodes == 1
