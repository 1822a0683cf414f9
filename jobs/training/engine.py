"""The DeepSpeed engine of a training stage: ZeRO stage 0 with float32 weights (bfloat16 by autocast on GPUs).

The nets fit on one GPU many times over, so nothing is partitioned, and a checkpoint resumes on any number of ranks.
"""

from __future__ import annotations

import logging
import warnings
from typing import Protocol

import torch
from torch import Tensor, nn

from cemiface.errors import ModelError
from jobs.training.world import World


class Engine(Protocol):
    """The part of a DeepSpeed engine that the training loops use; DeepSpeed itself is untyped."""

    def __call__(self, *inputs: Tensor) -> Tensor: ...

    def backward(self, loss: Tensor) -> object:
        """Add the gradient of `loss`, divided by the number of micro batches, to the sum of this step."""

    def step(self) -> None:
        """Count a micro batch; after the last one of a step, average the gradients over ranks, clip them and update."""

    def train(self) -> object: ...


def start_engine(
    module: nn.Module,
    *,
    optimizer: torch.optim.Optimizer,
    batch: int,
    gradient_clipping: float,
    world: World,
    micro_batch: int | None = None,
) -> Engine:
    """Wrap `module` in a DeepSpeed engine.

    `batch` counts the images of a step over all ranks, `micro_batch` those of one pass on one rank (None: its share).

    Raises:
        ModelError: the batch does not divide by the number of ranks, or a rank's share by the micro batch.
    """
    share = _share(batch, ranks=world.size, micro_batch=micro_batch)
    micro = micro_batch or share
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about operators that are not used here
        # Imported here because the import reads DS_ACCELERATOR, which `join` sets.
        import deepspeed

    logging.getLogger("DeepSpeed").setLevel(logging.WARNING)
    # On CPUs DeepSpeed would compile this communication op for two minutes before the first step; gloo works without
    # it. The table is private, but DeepSpeed has no public switch for the op.
    # tests/jobs/training/test_deepspeed.py fails if DeepSpeed stops reading it.
    deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False
    engine: Engine
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


def _share(batch: int, *, ranks: int, micro_batch: int | None) -> int:
    """The images of a step on one rank."""
    share, rest = divmod(batch, ranks)
    if rest:
        raise ModelError(f"batch: got {batch} for {ranks} ranks, allowed: a multiple of the number of ranks")
    if micro_batch and share % micro_batch:
        raise ModelError(
            f"micro_batch: got {micro_batch} for a share of {share} images per rank, allowed: a divisor of it"
        )
    return share
