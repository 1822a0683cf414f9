"""The device of a rank with everything fixed that results depend on, and what makes nets fast on it."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import torch

from jobs.frame.stage_config import Precision

if TYPE_CHECKING:
    from torch import nn

    from jobs.frame.rank import Rank


def rank_device(rank: Rank) -> torch.device:
    """One GPU of the node where the cluster file gives one to each rank, else the rank's own CPU threads."""
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    cluster = rank.run.cluster
    array = cluster.of_array(rank.stage.name)
    torch.set_num_threads(cluster.threads(array))
    torch.use_deterministic_algorithms(True, warn_only=True)
    if array.gpus and torch.cuda.is_available():
        return torch.device("cuda", int(os.environ.get("SLURM_LOCALID") or 0) % torch.cuda.device_count())
    return torch.device("cpu")


def autocast(device: torch.device, precision: Precision) -> torch.autocast:
    """bfloat16 for matrix products and convolutions where `precision` says so; weights stay float32."""
    enabled = precision == "bf16" or (precision == "auto" and device.type == "cuda")
    return torch.autocast(device.type, torch.bfloat16, enabled=enabled)


def tuned(net: nn.Module, *, channels_last: bool, compiled: bool, graphs: bool = False) -> None:
    """Change, in place, how a net on its device computes, not what: memory layout, compiled kernels, CUDA graphs."""
    if channels_last:
        net.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    if compiled:
        on_gpu = next(net.parameters()).device.type == "cuda"
        net.compile(dynamic=False, mode="reduce-overhead" if graphs and on_gpu else None)
