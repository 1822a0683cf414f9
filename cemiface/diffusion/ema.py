"""Exponential moving average (EMA) of the weights, used for sampling."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import get_ema_multi_avg_fn


class Ema:
    """The average of a module's weights over its training, as a frozen module in float32 and eval mode.

    With warmup the decay is min(decay, (1 + step) / (10 + step)), so that the random initial weights do not remain in
    the average of a short run. The state to store is `ema.module.state_dict()`.
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
        """Move the average towards the module's weights of any dtype; buffers are copied."""
        averages: list[Tensor] = list(self.module.parameters())
        weights: list[Tensor] = [parameter.float() for parameter in module.parameters()]
        # A few kernels instead of one per parameter. The step is not used: `decay_at` has the warmup.
        get_ema_multi_avg_fn(self.decay_at(step))(averages, weights, step)
        for copied, buffer in zip(self.module.buffers(), module.buffers(), strict=True):
            copied.copy_(buffer)
