"""The DeepSpeed engine of a training stage."""

from __future__ import annotations

import logging
import warnings
from typing import Any

import torch
from torch import nn

from cemiface.errors import ModelError
from jobs.training.world import World


def start_engine(
    module: nn.Module,
    *,
    optimizer: torch.optim.Optimizer,
    batch: int,
    gradient_clipping: float,
    world: World,
    micro_batch: int | None = None,
) -> Any:
    """A DeepSpeed engine over `module`; `batch` is global, `micro_batch` what one rank takes at a time (None: all).

    Raises:
        ModelError: the batch does not divide by the number of ranks, or a rank's share by the micro batch.
    """
    share, rest = divmod(batch, world.size)
    if rest:
        raise ModelError(f"batch: got {batch} for {world.size} ranks, allowed: a multiple of the number of ranks")
    micro = micro_batch or share
    if share % micro:
        raise ModelError(f"micro_batch: got {micro} for a share of {share} images per rank, allowed: a divisor of it")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        # Only now: its import reads DS_ACCELERATOR, which `join` has set, and warns about operators nobody uses here.
        import deepspeed

    logging.getLogger("DeepSpeed").setLevel(logging.WARNING)
    # On CPUs DeepSpeed would compile this communication op for two minutes before the first step; gloo works without
    # it. The table is private, but DeepSpeed has no public switch for the op. tests/jobs/training/test_deepspeed.py fails if
    # DeepSpeed stops reading it.
    deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False
    engine, *_ = deepspeed.initialize(
        model=module,
        optimizer=optimizer,
        config={
            "train_batch_size": batch,
            "train_micro_batch_size_per_gpu": micro,
            "gradient_accumulation_steps": share // micro,
            "gradient_clipping": gradient_clipping,
            "zero_optimization": {"stage": 0},
            "steps_per_print": 1_000_000_000,
        },
    )
    return engine
