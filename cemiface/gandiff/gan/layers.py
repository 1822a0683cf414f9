"""Layers of style-based generators and their critics, with equalized learning rates.

Equalized learning rate (Karras et al. 2018, arXiv 1710.10196, section 4.1): weights are drawn with variance 1 and
scaled by 1 / sqrt(inputs) each time they are used, so that Adam moves all layers at the same relative speed.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

SLOPE = 0.2  # of the leaky ReLU
GAIN = math.sqrt(2)  # keeps the variance of a leaky ReLU's output near 1
EPSILON = 1e-8


class EqualLinear(nn.Module):
    """A linear layer with an equalized learning rate; `rate` multiplies it further (0.01 in mapping networks)."""

    def __init__(self, inputs: int, outputs: int, *, rate: float = 1.0, bias: float = 0.0) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(outputs, inputs) / rate)
        self.bias = nn.Parameter(torch.full((outputs,), bias / rate))
        self.scale, self.rate = rate / math.sqrt(inputs), rate

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x, self.weight * self.scale, self.bias * self.rate)


class EqualConv(nn.Module):
    """A convolution with an equalized learning rate that keeps the resolution."""

    def __init__(self, inputs: int, outputs: int, *, kernel: int = 3, bias: bool = True) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(outputs, inputs, kernel, kernel))
        self.bias = nn.Parameter(torch.zeros(outputs)) if bias else None
        self.scale, self.padding = 1 / math.sqrt(inputs * kernel**2), kernel // 2

    def forward(self, x: Tensor) -> Tensor:
        return F.conv2d(x, self.weight * self.scale, self.bias, padding=self.padding)


class StyledConv(nn.Module):
    """A convolution whose weights a style scales per input channel and image (Karras et al. 2020, 1912.04958, eq. 1-3).

    The scales are applied to the input and the demodulation to the output: the same numbers as a convolution of its own
    per image, in one convolution for all images.
    """

    def __init__(self, inputs: int, outputs: int, *, w_width: int, kernel: int = 3, demodulate: bool = True) -> None:
        super().__init__()
        self.style = EqualLinear(w_width, inputs, bias=1.0)
        self.weight = nn.Parameter(torch.randn(outputs, inputs, kernel, kernel))
        self.bias = nn.Parameter(torch.zeros(outputs))
        self.scale, self.demodulate = 1 / math.sqrt(inputs * kernel**2), demodulate
        self.padding = kernel // 2

    def forward(self, x: Tensor, w: Tensor) -> Tensor:
        style, weight = self.style(w), self.weight * self.scale
        y = F.conv2d(x * style[:, :, None, None], weight, padding=self.padding)
        if self.demodulate:
            with torch.autocast(x.device.type, enabled=False):  # sums of squares need float32
                squares = weight.square().sum((2, 3))  # (outputs, inputs)
                norm = F.linear(at_least_float32(style).square(), squares)
                y = y * torch.rsqrt(norm + EPSILON).to(y.dtype)[:, :, None, None]
        return y + self.bias[:, None, None].to(y.dtype)


def at_least_float32(x: Tensor) -> Tensor:
    """x, or its copy in float32 if it has fewer bits."""
    return x.to(torch.promote_types(x.dtype, torch.float32))


def leaky(x: Tensor) -> Tensor:
    """Leaky ReLU that keeps the variance."""
    return F.leaky_relu(x, SLOPE) * GAIN


def pixel_norm(z: Tensor) -> Tensor:
    """Rows of mean square 1."""
    return z * torch.rsqrt(z.square().mean(1, keepdim=True) + EPSILON)


def blur(x: Tensor) -> Tensor:
    """Smooth by (1, 2, 1) / 4 along both axes, which removes patterns of two pixels; the border is repeated.

    Of sums and slices, as torch's padding has a backward pass on GPUs that differs from run to run.
    """
    x = torch.cat([x[..., :1], x, x[..., -1:]], 3)
    x = (x[..., :-2] + 2 * x[..., 1:-1] + x[..., 2:]) / 4
    x = torch.cat([x[..., :1, :], x, x[..., -1:, :]], 2)
    return (x[..., :-2, :] + 2 * x[..., 1:-1, :] + x[..., 2:, :]) / 4


def doubled(x: Tensor) -> Tensor:
    """Twice the resolution, interpolated linearly with (1, 3, 3, 1) / 4; the border is repeated.

    Of sums and slices for the same reason.
    """
    return _doubled_along(_doubled_along(x, 3), 2)


def _doubled_along(x: Tensor, axis: int) -> Tensor:
    size = x.shape[axis]
    before = torch.cat([x.narrow(axis, 0, 1), x.narrow(axis, 0, size - 1)], axis)
    after = torch.cat([x.narrow(axis, 1, size - 1), x.narrow(axis, size - 1, 1)], axis)
    pair = torch.stack([torch.lerp(x, before, 0.25), torch.lerp(x, after, 0.25)], axis + 1)
    return pair.flatten(axis, axis + 1)
