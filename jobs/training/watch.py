"""Looks once per step of a training: stop requests, checkpoints that are due, and whether the loss is finite."""

from __future__ import annotations

import torch
from torch import Tensor

from cemiface.errors import ModelError
from jobs.frame.rank import Rank
from jobs.training.state import TrainingState
from jobs.training.world import World
from slurm.ranks.stop import Stopped


class Watch:
    """Looked at once per step: does any rank have to stop, is a checkpoint due, is the loss still a number?"""

    def __init__(self, rank: Rank, world: World, *, total: int) -> None:
        self.rank, self.world, self.total = rank, world, total
        self.earlier = 0 if rank.stage.distributed else rank.images  # of trainings before, where each unit is one

    def between_steps(self, state: TrainingState, *, images: int, batch: int, every: int) -> None:
        """Save where a step crossed a multiple of `every` images; save and leave if any rank was asked to stop.

        Raises:
            Stopped: on all ranks alike.
        """
        due = torch.tensor([float(self.rank.stop.due())], device=self.world.device)
        stop = bool(self.world.total(due).item())
        if stop or crossed(images, batch, every=every):
            state.save(images)
        if stop:
            raise Stopped(self.rank.stop.reason or "another rank was asked to stop")

    def loss(self, loss: Tensor, *, images: int) -> float:
        """The mean loss over the ranks, as a number, with a heartbeat.

        Raises:
            ModelError: it is not finite; the last checkpoint is untouched.
        """
        value = float(self.world.total(loss.detach().float().clone()).item()) / self.world.size
        if not torch.isfinite(torch.tensor(value)):
            raise ModelError(
                f"{self.rank.stage.name}: the loss is {value} after {images} images; "
                "lower the learning rate; the last checkpoint is whole"
            )
        self.rank.images = self.earlier + images
        self.rank.heartbeat.update(images=self.rank.images, total=self.total, note=f"loss {value:.4f}")
        return value


def crossed(images: int, batch: int, *, every: int) -> bool:
    """Whether the last batch took the count over a multiple of `every`."""
    return images > 0 and images // every > (images - batch) // every
