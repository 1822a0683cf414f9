"""The device of a rank, its determinism settings, and the settings that make nets fast on it."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import torch

from jobs.frame.stage_config import Precision

if TYPE_CHECKING:
    from torch import nn

    from jobs.frame.rank import Rank


def rank_device(rank: Rank) -> torch.device:
    """A GPU of the node if the cluster file gives the stage GPUs, else the CPU.

    Also sets the number of threads and deterministic kernels, which results depend on.
    """
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    cluster = rank.run.cluster
    array = cluster.of_array(rank.stage.name)
    torch.set_num_threads(cluster.threads(array))
    torch.use_deterministic_algorithms(True, warn_only=True)
    if array.gpus and torch.cuda.is_available():
        return torch.device("cuda", int(os.environ.get("SLURM_LOCALID") or 0) % torch.cuda.device_count())
    return torch.device("cpu")


def autocast(device: torch.device, precision: Precision) -> torch.autocast:
    """A context that computes matrix products and convolutions in bfloat16 if `precision` asks for it.

    Weights stay float32. "auto" is bfloat16 on GPUs and float32 on CPUs.
    """
    enabled = precision == "bf16" or (precision == "auto" and device.type == "cuda")
    return torch.autocast(device.type, torch.bfloat16, enabled=enabled)


def tune(net: nn.Module, *, channels_last: bool, compiled: bool, graphs: bool = False) -> None:
    """Set the memory layout of a net and compile it, in place; results change by rounding only.

    `graphs`: a compiled net on a GPU also uses CUDA graphs.
    """
    if channels_last:
        net.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    if compiled:
        on_gpu = next(net.parameters()).device.type == "cuda"
        net.compile(dynamic=False, mode="reduce-overhead" if graphs and on_gpu else None)
