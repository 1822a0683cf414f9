"""The device of a rank of an array stage, with everything fixed that results depend on."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from jobs.rank import Rank


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
