"""Batch norm over the images of all ranks, so that a net trains alike on one GPU and on many.

The recipe's batch of 512 was normalized as one, on one GPU; parts of it have other moments, and another training.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm


def synchronized(net: nn.Module, *, device: torch.device) -> nn.Module:
    """The net with its batch norms exchanged, keeping their parameters, buffers and names."""
    if device.type == "cuda":
        whole: nn.Module = nn.SyncBatchNorm.convert_sync_batchnorm(net)
        return whole
    for parent in list(net.modules()):
        for name, child in list(parent.named_children()):
            if isinstance(child, _BatchNorm):
                setattr(parent, name, HostSyncNorm.of(child))
    return net


class HostSyncNorm(_BatchNorm):
    """torch's SyncBatchNorm exists for GPUs only; this one is for CPUs."""

    @classmethod
    def of(cls, norm: _BatchNorm) -> HostSyncNorm:
        """With the very parameters and buffers of `norm`."""
        made = cls(norm.num_features, eps=norm.eps, momentum=norm.momentum, affine=False)
        made.affine, made.weight, made.bias = norm.affine, norm.weight, norm.bias
        made._buffers = norm._buffers
        return made

    def _check_input_dim(self, input: Tensor) -> None:  # noqa: A002 (torch's name)
        pass

    def forward(self, x: Tensor) -> Tensor:
        if not self.training:
            return super().forward(x)
        axes = [axis for axis in range(x.ndim) if axis != 1]
        shape = [1, -1] + [1] * (x.ndim - 2)
        mean, square = _MeanOverRanks.apply(torch.stack([x.mean(axes), x.square().mean(axes)]))
        variance = square - mean.square()
        self._move(mean.detach(), variance.detach(), count=x.numel() // x.shape[1] * dist.get_world_size())
        scale = (variance + self.eps).rsqrt()
        if self.weight is not None:
            scale = scale * self.weight
        shift = -mean * scale + (self.bias if self.bias is not None else 0)
        return torch.addcmul(shift.view(shape), x, scale.view(shape))

    def _move(self, mean: Tensor, variance: Tensor, *, count: int) -> None:
        """The running moments, of which the variance is the unbiased one."""
        assert self.running_mean is not None
        assert self.running_var is not None
        assert self.num_batches_tracked is not None
        assert self.momentum is not None
        self.num_batches_tracked.add_(1)
        self.running_mean.lerp_(mean, self.momentum)
        self.running_var.lerp_(variance * (count / max(1, count - 1)), self.momentum)


class _MeanOverRanks(torch.autograd.Function):
    """The mean of all ranks' tensors; its gradient reaches every rank from all of them."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return _mean(x)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        return _mean(grad)


def _mean(x: Tensor) -> Tensor:
    x = x.contiguous().clone()
    dist.all_reduce(x)
    return x / dist.get_world_size()
