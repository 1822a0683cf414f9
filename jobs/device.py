"""The device of a rank of an array stage, with everything fixed that results depend on."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from jobs.rank import Rank


def rank_device(rank: Rank) -> torch.device:
    """One GPU where the cluster file gives one, else the rank's own CPU threads."""
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.set_num_threads(rank.run.cluster.array.cpus)
    torch.use_deterministic_algorithms(True, warn_only=True)
    if rank.run.cluster.array.gpus and torch.cuda.is_available():
        return torch.device("cuda", 0)
    return torch.device("cpu")
