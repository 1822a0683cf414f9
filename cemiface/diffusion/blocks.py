"""The blocks of the U-Net: residual blocks that the timestep scales and shifts, and attention with a condition."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from cemiface.diffusion.config import GROUPS

Resample = Literal["down", "up"] | None


class GroupNorm(nn.GroupNorm):
    """Group norm that computes in float32 under any autocast and returns the dtype of its input.

    A group has at least four channels. With a single channel per group the mean of that channel would be lost, and
    with it the color of the image, which at the noisiest timesteps must be known to a hundredth of the noise.
    """

    def __init__(self, channels: int) -> None:
        super().__init__(min(GROUPS, channels // 4), channels)

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002 (torch's name)
        return super().forward(input.float()).to(input.dtype)


class ResidualBlock(nn.Module):
    """Two convolutions with the timestep in between, optionally at half or double the resolution."""

    def __init__(self, inputs: int, outputs: int, *, time_width: int, resample: Resample = None) -> None:
        super().__init__()
        self.resample = resample
        self.norm_in = GroupNorm(inputs)
        self.conv_in = nn.Conv2d(inputs, outputs, 3, padding=1)
        self.time = nn.Linear(time_width, 2 * outputs)
        self.norm_out = GroupNorm(outputs)
        self.conv_out = zero_init(nn.Conv2d(outputs, outputs, 3, padding=1))
        self.skip = nn.Identity() if inputs == outputs else nn.Conv2d(inputs, outputs, 1)

    def forward(self, x: Tensor, time: Tensor) -> Tensor:
        h = self._resized(recomputed(lambda x: silu(self.norm_in(x)), x))
        h = self.norm_out(self.conv_in(h))
        scale, shift = self.time(time)[:, :, None, None].chunk(2, dim=1)
        branch: Tensor = self.conv_out(recomputed(lambda h: silu(h * (1 + scale) + shift), h))
        shortcut: Tensor = self.skip(self._resized(x))
        return shortcut + branch

    def _resized(self, x: Tensor) -> Tensor:
        if self.resample == "down":
            return F.avg_pool2d(x, 2)
        if self.resample == "up":
            return F.interpolate(x, scale_factor=2, mode="nearest")
        return x


class Attention(nn.Module):
    """Self-attention over the image tokens and the condition tokens in one softmax (CemiFace eq. 8)."""

    def __init__(self, channels: int, *, head_channels: int, condition_width: int, condition_tokens: int = 1) -> None:
        super().__init__()
        self.heads = channels // head_channels
        self.tokens = condition_tokens
        self.norm = GroupNorm(channels)
        self.qkv = nn.Conv2d(channels, 3 * channels, 1)
        self.project = zero_init(nn.Conv2d(channels, channels, 1))
        self.condition = nn.Linear(condition_width, 2 * condition_tokens * channels)  # F2 in eq. 7: keys and values

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        """x (N, channels, H, W); condition (N, condition_width), or (N, L, condition_width) for a sequence of L."""
        n, channels, height, width = x.shape
        image = self.qkv(self.norm(x)).reshape(n, 3, self.heads, -1, height * width)
        q, k, v = image.transpose(-1, -2).unbind(1)  # each (N, heads, H*W, head_channels)
        given = self.condition(condition).reshape(n, -1, 2, self.heads, self.tokens, channels // self.heads)
        condition_k, condition_v = (
            given.transpose(1, 3).flatten(3, 4).unbind(2)
        )  # each (N, heads, L*tokens, head_channels)
        k, v = torch.cat([condition_k, k], dim=2), torch.cat([condition_v, v], dim=2)
        h = F.scaled_dot_product_attention(q, k, v)
        projected: Tensor = self.project(h.transpose(-1, -2).reshape(n, channels, height, width))
        return x + projected


def silu(x: Tensor) -> Tensor:
    """SiLU of a tensor that has no other user, in place where no gradient needs x: saves 3 % of a forward pass."""
    return F.silu(x, inplace=not torch.is_grad_enabled())


def recomputed(function: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """function(x), computed again in the backward pass: cheap functions whose results would take memory to keep."""
    if not torch.is_grad_enabled():
        return function(x)
    result: Tensor = checkpoint(function, x, use_reentrant=False, preserve_rng_state=False)
    return result


def zero_init(conv: nn.Conv2d) -> nn.Conv2d:
    """The convolution with zero weights and bias, so that a residual branch starts as the identity."""
    nn.init.zeros_(conv.weight)
    assert conv.bias is not None
    nn.init.zeros_(conv.bias)
    return conv
