"""Each rank computes on its own GPU, or on the CPU, as the cluster file says. Only the number of GPUs is faked."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch

from jobs.training.device import rank_device
from slurm.cluster import Cluster
from slurm.errors import RunError


@pytest.fixture(autouse=True)
def _undone(monkeypatch: pytest.MonkeyPatch) -> None:
    """What `rank_device` sets for its process."""
    for name in ("CUDA_VISIBLE_DEVICES", "SLURM_LOCALID", "CUBLAS_WORKSPACE_CONFIG"):
        monkeypatch.setenv(name, "x")
        monkeypatch.delenv(name)
    monkeypatch.setattr(torch, "set_num_threads", lambda threads: None)
    monkeypatch.setattr(torch, "use_deterministic_algorithms", lambda mode, *, warn_only: None)


def _device(monkeypatch: pytest.MonkeyPatch, *, seen: int, distributed: bool, gpus: int = 1, **variables: str) -> Any:
    chosen: list[torch.device] = []
    monkeypatch.setattr(torch.cuda, "device_count", lambda: seen)
    monkeypatch.setattr(torch.cuda, "set_device", chosen.append)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    section = "train" if distributed else "array"
    cluster = Cluster.model_validate({section: {"gpus": gpus, "cpus": 1}})
    stage = SimpleNamespace(name="embed", distributed=distributed)
    rank: Any = SimpleNamespace(run=SimpleNamespace(cluster=cluster), stage=stage)
    device = rank_device(rank)
    assert chosen == ([device] if device.type == "cuda" else [])
    return str(device)


@pytest.mark.parametrize("distributed", [False, True])
@pytest.mark.parametrize(
    ("seen", "variables", "device"),
    [
        (1, {}, "cuda:0"),
        (4, {"SLURM_LOCALID": "3"}, "cuda:3"),
        (4, {"SLURM_LOCALID": "2", "CUDA_VISIBLE_DEVICES": "0,1,2,3"}, "cuda:2"),
        (1, {"SLURM_LOCALID": "3", "CUDA_VISIBLE_DEVICES": "3"}, "cuda:0"),  # --gpus-per-task
        (1, {"SLURM_LOCALID": "1", "CUDA_VISIBLE_DEVICES": "MIG-7"}, "cuda:0"),
    ],
)
def test_a_rank_uses_the_gpu_that_is_its_own(
    monkeypatch: pytest.MonkeyPatch, distributed: bool, seen: int, variables: dict[str, str], device: str
) -> None:
    assert _device(monkeypatch, seen=seen, distributed=distributed, **variables) == device


@pytest.mark.parametrize("distributed", [False, True])
def test_without_gpus_in_the_cluster_file_it_is_the_cpu_whatever_is_there(
    monkeypatch: pytest.MonkeyPatch, distributed: bool
) -> None:
    assert _device(monkeypatch, seen=4, distributed=distributed, gpus=0, SLURM_LOCALID="2") == "cpu"


@pytest.mark.parametrize("distributed", [False, True])
@pytest.mark.parametrize(
    ("seen", "variables", "words"),
    [
        (0, {}, r"embed: gpus: got 1, but rank 0 of .* sees 0 \(CUDA_VISIBLE_DEVICES=not set\)"),
        (0, {"CUDA_VISIBLE_DEVICES": ""}, r"sees 0 \(CUDA_VISIBLE_DEVICES=empty\).*set gpus: 0 to use the CPU"),
        (1, {"SLURM_LOCALID": "1"}, r"rank 1 of .* sees 1"),  # another rank has it
        (2, {"SLURM_LOCALID": "2", "CUDA_VISIBLE_DEVICES": "0,1"}, r"sees 2 \(CUDA_VISIBLE_DEVICES=0,1\)"),
    ],
)
def test_a_rank_that_has_none_of_its_own_ends_and_shares_none(
    monkeypatch: pytest.MonkeyPatch, distributed: bool, seen: int, variables: dict[str, str], words: str
) -> None:
    with pytest.raises(RunError, match=words):
        _device(monkeypatch, seen=seen, distributed=distributed, **variables)
