"""What happens between the steps of a training: stop requests, checkpoints that are due, and the loss check."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from cemiface.errors import ModelError
from jobs.frame.rank import Rank
from jobs.training.state import TrainingState
from jobs.training.world import World
from slurm.ranks.stop import Stopped


class StepMonitor:
    """Checks once per step whether any rank must stop, whether a checkpoint is due, and whether the loss is finite."""

    def __init__(self, rank: Rank, world: World, *, total: int) -> None:
        self.rank, self.world, self.total = rank, world, total
        # A rank of an array trains several nets; its heartbeat counts the images of all of them.
        self.images_of_earlier_units = 0 if rank.stage.distributed else rank.images

    def between_steps(self, state: TrainingState, *, images: int, batch: int, every: int) -> None:
        """Save if the last step crossed a multiple of `every` images; save and stop if any rank was asked to stop.

        Raises:
            Stopped: on all ranks alike.
        """
        due = torch.tensor([float(self.rank.stop.due())], device=self.world.device)
        stop = bool(self.world.total(due).item())
        if stop or crossed(images, batch, every=every):
            state.save(images)
        if stop:
            raise Stopped(self.rank.stop.reason or "another rank was asked to stop")

    def mean_loss(self, loss: Tensor, *, images: int) -> float:
        """The mean loss over the ranks, which the heartbeat also reports.

        Raises:
            ModelError: the loss is not finite. The last checkpoint is not affected.
        """
        value = float(self.world.total(loss.detach().float().clone()).item()) / self.world.size
        if not math.isfinite(value):
            raise ModelError(
                f"{self.rank.stage.name}: the loss is {value} after {images} images; "
                "lower the learning rate; the last checkpoint is whole"
            )
        self.rank.images = self.images_of_earlier_units + images
        self.rank.heartbeat.update(images=self.rank.images, total=self.total, note=f"loss {value:.4f}")
        return value


def crossed(images: int, batch: int, *, every: int) -> bool:
    """Whether the last batch brought the image count to or past a multiple of `every`."""
    return images > 0 and images // every > (images - batch) // every
