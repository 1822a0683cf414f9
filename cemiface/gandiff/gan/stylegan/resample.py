"""Changing the resolution of features with a low-pass filter."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from cemiface.gandiff.gan.stylegan.config import Padding


def resample(
    x: Tensor, filtered_by: Tensor | None, *, up: int = 1, down: int = 1, padding: Padding = (0, 0, 0, 0)
) -> Tensor:
    """Insert up - 1 zeros after every pixel, pad or crop, filter, and keep every `down`-th pixel.

    The filter is one for both axes (n,) or two-dimensional (n, n). Values are multiplied by up^2, which makes up for
    the inserted zeros.
    """
    n, channels, height, width = x.shape
    if up > 1:
        spread = x.new_zeros(n, channels, height, up, width, up)
        spread[:, :, :, 0, :, 0] = x
        x = spread.reshape(n, channels, height * up, width * up)
    x = F.pad(x, padding)
    if filtered_by is None:
        x = x * up**2
    elif filtered_by.ndim == 1:
        x = _filtered(_filtered(x, filtered_by[None] * up), filtered_by[:, None] * up)
    else:
        x = _filtered(x, filtered_by * up**2)
    return x[..., ::down, ::down]


def _filtered(x: Tensor, kernel: Tensor) -> Tensor:
    """The convolution of every channel with a kernel (h, w), without padding."""
    n, channels, height, width = x.shape
    found = F.conv2d(x.reshape(n * channels, 1, height, width), kernel.flip(0, 1)[None, None].to(x.dtype))
    return found.reshape(n, channels, *found.shape[2:])


def modulated(x: Tensor, *, weight: Tensor, style: Tensor, demodulate: bool, padding: int) -> Tensor:
    """The convolution of each image (N, C, H, W) with weights that its style (N, C) scales (1912.04958, eq. 1 and 3).

    As StyledConv of the suite's own generator: scales on the input, demodulation on the output.
    """
    y = F.conv2d(x * style[:, :, None, None], weight, padding=padding)
    if not demodulate:
        return y
    norm = F.linear(style.square(), weight.square().sum((2, 3)))
    return y * torch.rsqrt(norm + 1e-8)[:, :, None, None]
