"""The device of a rank, its determinism settings, and the settings that make nets fast on it."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import torch

from jobs.frame.stage_config import Precision
from slurm.errors import RunError
from slurm.gpus import VISIBLE
from slurm.ranks.worker import this_host

if TYPE_CHECKING:
    from torch import nn

    from jobs.frame.rank import Rank


def rank_device(rank: Rank) -> torch.device:
    """The rank's own GPU if the cluster file gives the stage GPUs, else the CPU.

    Also sets the number of threads and deterministic kernels, which results depend on.

    Raises:
        RunError: the rank should have a GPU of its own and sees none.
    """
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    cluster, stage = rank.run.cluster, rank.stage
    resources = cluster.of_train(stage.name) if stage.distributed else cluster.of_array(stage.name)
    torch.set_num_threads(cluster.threads(resources))
    torch.use_deterministic_algorithms(True, warn_only=True)
    if not resources.gpus:
        return torch.device("cpu")
    device = torch.device("cuda", _own_gpu(stage.name))
    torch.cuda.set_device(device)
    return device


def _own_gpu(stage: str) -> int:
    """The number of this rank's GPU among those that it sees.

    It is the only one where each rank is shown its own: by the launcher on this machine, by `--gpus-per-task`, as an
    instance of MIG. Where all ranks of a node see the same ones, each takes the one of its number on the node.
    """
    seen, shown = torch.cuda.device_count(), os.environ.get(VISIBLE)
    local = int(os.environ.get("SLURM_LOCALID") or 0)
    number = 0 if seen == 1 and shown else local
    if number < seen:
        return number
    why = f"rank {local} of {this_host()} sees {seen} ({VISIBLE}={'not set' if shown is None else shown or 'empty'})"
    if torch.version.cuda is None and not seen:
        why += "; this torch is a build for CPUs"
    raise RunError(
        f"{stage}: gpus: got 1, but {why}; check `nvidia-smi` there, `exclude` the node, or set gpus: 0 to use the CPU"
    )


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
