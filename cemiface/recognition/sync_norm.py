"""Batch norm over the images of all ranks, so that training does not depend on the number of GPUs.

The recipe normalized its batch of 512 as a whole, on one GPU. Parts of a batch have other moments.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor, nn

Norm = nn.BatchNorm1d | nn.BatchNorm2d


def synchronized(net: nn.Module, *, device: torch.device) -> nn.Module:
    """The net with its batch norms replaced by synchronized ones, with the same parameters, buffers and names."""
    if device.type == "cuda":
        whole: nn.Module = nn.SyncBatchNorm.convert_sync_batchnorm(net)
        return whole
    for parent in list(net.modules()):
        for name, child in list(parent.named_children()):
            if isinstance(child, Norm):
                setattr(parent, name, HostSyncNorm.of(child))
    return net


class HostSyncNorm(nn.SyncBatchNorm):
    """Synchronized batch norm for CPUs; in training torch's own works on GPUs only."""

    @classmethod
    def of(cls, norm: Norm) -> HostSyncNorm:
        """One that shares the parameters and buffers of `norm`."""
        made = cls(norm.num_features, eps=norm.eps, momentum=norm.momentum, affine=False)
        made.affine, made.weight, made.bias = norm.affine, norm.weight, norm.bias
        made.running_mean, made.running_var = norm.running_mean, norm.running_var
        made.num_batches_tracked = norm.num_batches_tracked
        return made.train(norm.training)

    def forward(self, x: Tensor) -> Tensor:
        if not self.training:
            return super().forward(x)
        y: Tensor
        y, mean, variance = _Normalize.apply(x, self.weight, self.bias, self.eps)  # type: ignore[no-untyped-call]  # torch's apply has no types
        self._move(mean, variance, count=x.numel() // x.shape[1] * dist.get_world_size())
        return y

    def _move(self, mean: Tensor, variance: Tensor, *, count: int) -> None:
        """The running moments, of which the variance is the unbiased one."""
        assert self.running_mean is not None
        assert self.running_var is not None
        assert self.num_batches_tracked is not None
        assert self.momentum is not None
        self.num_batches_tracked.add_(1)
        self.running_mean.lerp_(mean, self.momentum)
        self.running_var.lerp_(variance * (count / max(1, count - 1)), self.momentum)


class _Normalize(torch.autograd.Function):
    """Batch norm with the moments of all ranks' images, which it also returns.

    The gradient of an image is that of all ranks' outputs, of which each moment depends on every image.
    """

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor | None, bias: Tensor | None, eps: float
    ) -> tuple[Tensor, Tensor, Tensor]:
        axes = _all_but_channels(x)
        mean, square = _mean(torch.stack([x.mean(axes), x.square().mean(axes)]))
        variance = (square - mean.square()).clamp_(min=0)
        ctx.save_for_backward(x, weight, mean, (variance + eps).rsqrt())
        ctx.mark_non_differentiable(mean, variance)
        return F.batch_norm(x, mean, variance, weight, bias, training=False, eps=eps), mean, variance

    @staticmethod
    def backward(ctx: Any, grad: Tensor, *_: Tensor) -> tuple[Tensor, Tensor | None, Tensor | None, None]:
        x, weight, mean, inverse = ctx.saved_tensors
        axes, shape = _all_but_channels(x), [1, -1] + [1] * (x.ndim - 2)
        standard = (x - mean.view(shape)) * inverse.view(shape)
        own = torch.stack([grad.mean(axes), (grad * standard).mean(axes)])
        count = x.numel() // x.shape[1]
        d_bias, d_weight = (own * count).unbind() if weight is not None else (None, None)
        first, second = _mean(own)
        inner = grad - first.view(shape) - standard.mul_(second.view(shape))
        scale = inverse if weight is None else inverse * weight
        return inner.mul_(scale.view(shape)), d_weight, d_bias, None


def _all_but_channels(x: Tensor) -> list[int]:
    return [axis for axis in range(x.ndim) if axis != 1]


def _mean(x: Tensor) -> Tensor:
    x = x.contiguous().clone()
    dist.all_reduce(x)
    return x / dist.get_world_size()
