"""Exponential moving average of weights: the model that samples."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn


class Ema:
    """A copy of a module, in float32 and eval mode, that follows it with `decay` per step.

    With warmup the decay is min(decay, (1 + step) / (10 + step)), so that a run of hundreds of steps is not averaged
    with its random start. The state to store is `ema.module.state_dict()`: plain tensors.
    """

    def __init__(self, module: nn.Module, *, decay: float, warmup: bool = True) -> None:
        self.decay = decay
        self.warmup = warmup
        self.module = copy.deepcopy(module).float().eval().requires_grad_(False)

    def decay_at(self, step: int) -> float:
        """The decay used after optimizer step number `step`, counted from 0."""
        return min(self.decay, (1 + step) / (10 + step)) if self.warmup else self.decay

    @torch.no_grad()
    def update(self, module: nn.Module, *, step: int) -> None:
        """Move towards the module's weights, whatever their dtype; buffers are copied."""
        weight = 1 - self.decay_at(step)
        averages: list[Tensor] = list(self.module.parameters())
        now = [parameter.to(parameter.device, torch.float32) for parameter in module.parameters()]
        torch._foreach_lerp_(averages, now, weight)  # a few kernels instead of one per parameter
        for copied, buffer in zip(self.module.buffers(), module.buffers(), strict=True):
            copied.copy_(buffer)
