"""The state of a training in checkpoints that resume on any number of ranks.

DeepSpeed's own checkpoints are pickles that only the same number of ranks can load; these are safetensors.
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Mapping
from typing import Any, Protocol

import safetensors.torch
import torch
from safetensors import safe_open
from torch import Tensor, nn

from jobs.training.world import World
from slurm.checkpoints import Checkpoints

STATE, SPLIT, CLOCK = "state.safetensors", "split.safetensors", "clock.json"

log = logging.getLogger(__name__)


def checkpoint_key(fingerprint: Mapping[str, Any], *, stage: str) -> dict[str, Any]:
    """What the state in a checkpoint depends on: the fingerprint without the number of images of the training."""
    config = {name: value for name, value in fingerprint[stage].items() if name != "images"}
    return {**fingerprint, stage: config}


class Sliceable(Protocol):
    """A tensor in a file, of which only the requested slice is read."""

    def __getitem__(self, rows: slice, /) -> Tensor: ...


class SplitState(Protocol):
    """A state of which each rank holds a part and a checkpoint the whole."""

    def gathered(self) -> dict[str, Tensor]:
        """The whole state on rank 0, empty elsewhere; all ranks must call it."""

    def restore(self, whole: Mapping[str, Sliceable]) -> None:
        """Load this rank's part of a whole state."""


class TrainingState:
    """The modules and the optimizers of one training, with the checkpoints that store them."""

    def __init__(
        self,
        checkpoints: Checkpoints,
        *,
        modules: Mapping[str, nn.Module],
        optimizer: torch.optim.Optimizer,
        world: World,
        split: SplitState | None = None,
        second_optimizer: torch.optim.Optimizer | None = None,
    ) -> None:
        self.checkpoints, self.modules, self.optimizer, self.world = checkpoints, modules, optimizer, world
        self._optimizers = {"optimizer": optimizer}
        if second_optimizer is not None:  # of a GAN's critic
            self._optimizers["second_optimizer"] = second_optimizer
        self.split = split
        self.earlier_seconds = 0.0  # of training, in the attempts that this one continues
        self._started = time.monotonic()

    def save(self, images: int) -> None:
        """Write a checkpoint of everything after `images` images.

        Rank 0 writes; modules and optimizer are the same on all ranks. All ranks must call it: a split state is
        gathered.
        """
        split = self.split.gathered() if self.split is not None else None
        if self.world.rank != 0:
            return
        seconds = {"seconds": self.earlier_seconds + time.monotonic() - self._started}
        files = {STATE: safetensors.torch.save(self._tensors()), CLOCK: json.dumps(seconds).encode()}
        if split is not None:
            files[SPLIT] = safetensors.torch.save(split)
        self.checkpoints.save(images, files=files)

    def restore(self, *, at_most: int | None = None) -> int:
        """Load the newest whole checkpoint of up to `at_most` images; returns its image count, 0 if there is none.

        Rank 0 chooses the checkpoint, as the ranks may see different states of a network file system.
        """
        found = self.checkpoints.newest(at_most=at_most) if self.world.rank == 0 else None
        count = torch.tensor([found.images if found else 0], device=self.world.device)
        images = int(self.world.total(count).item())
        if images == 0:
            return 0
        checkpoint = self.checkpoints.at(images)
        self.earlier_seconds = json.loads(checkpoint.read(CLOCK))["seconds"]
        tensors = safetensors.torch.load(checkpoint.read(STATE))
        for prefix, module in self.modules.items():
            module.load_state_dict(_under(tensors, prefix))
        if self.split is not None:
            with safe_open(checkpoint.folder / SPLIT, framework="pt") as file:
                self.split.restore({name: file.get_slice(name) for name in file.keys()})  # noqa: SIM118
        for prefix, optimizer in self._optimizers.items():
            _restore_optimizer(optimizer, _under(tensors, prefix))
        log.info("resumed after %d images", images)
        return images

    def _tensors(self) -> dict[str, Tensor]:
        """Copies on the CPU, named "<module>.<name>" and "<optimizer>.<number of the parameter>.<name>"."""
        tensors: dict[str, Tensor] = {}
        for prefix, module in self.modules.items():
            tensors |= {f"{prefix}.{name}": tensor for name, tensor in module.state_dict().items()}
        for prefix, optimizer in self._optimizers.items():
            for number, state in optimizer.state_dict()["state"].items():
                tensors |= {f"{prefix}.{number}.{name}": value for name, value in state.items() if value is not None}
        return {name: tensor.detach().cpu().contiguous().clone() for name, tensor in tensors.items()}


def _restore_optimizer(optimizer: torch.optim.Optimizer, tensors: Mapping[str, Tensor]) -> None:
    state: dict[int, dict[str, Tensor]] = {}
    for name, tensor in tensors.items():
        number, _, field = name.partition(".")
        state.setdefault(int(number), {})[field] = tensor
    groups = optimizer.state_dict()["param_groups"]
    optimizer.load_state_dict({"state": state, "param_groups": groups})
    for parameter, own in optimizer.state.items():
        for field, value in own.items():
            if value.shape == parameter.shape:  # fused optimizers need the memory layout of the parameter
                own[field] = torch.empty_like(parameter).copy_(value)


def _under(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """The tensors whose name starts with the prefix and a dot, without them."""
    return {name[len(prefix) + 1 :]: tensor for name, tensor in tensors.items() if name.startswith(prefix + ".")}
