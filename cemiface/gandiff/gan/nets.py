"""The suite's own style-based GAN: a generator and a critic for 32 to 128 px.

After StyleGAN2 (Karras et al. 2020, arXiv 1912.04958), with changes that make it cheap: both nets work at half the
image size at most. The generator's last features are put onto the pixels (depth to space), smoothed, so that no pattern
of two pixels is left, and mixed once more at the full resolution. The critic takes blocks of 2x2 pixels as channels.
Neither has noise inputs, and the critic has no statistics over the batch, so that results depend on no batch.
"""

from __future__ import annotations

from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cemiface.gandiff.gan.config import PATCH, GanConfig
from cemiface.gandiff.gan.layers import (
    EqualConv,
    EqualLinear,
    StyledConv,
    at_least_float32,
    blur,
    doubled,
    leaky,
    pixel_norm,
)

MAPPING_RATE = 0.01  # learning rate of the mapping network, relative to the others (StyleGAN, appendix C)
MEAN_SAMPLES, MEAN_SEED = 10_000, 0  # of z, for the mean of w
HALVES = 0.5**0.5  # keeps the variance of a sum of two


class Generator(nn.Module):
    """z (N, z_width) to faces (N, 3, S, S), which lie in [-1, 1] after training but for a few pixels."""

    w_mean: Tensor

    def __init__(self, config: GanConfig) -> None:
        super().__init__()
        self.config = config
        widths = [config.z_width, *[config.w_width] * config.mapping_layers]
        self.layers = nn.ModuleList(EqualLinear(a, b, rate=MAPPING_RATE) for a, b in pairwise(widths))
        self.register_buffer("w_mean", torch.zeros(config.w_width))
        sides = config.sides
        self.constant = nn.Parameter(torch.randn(1, config.width_at(sides[0]), sides[0], sides[0]))
        self.blocks = nn.ModuleList(
            SynthesisBlock(config.width_at(side), config.width_at(after), w_width=config.w_width)
            for side, after in pairwise((*sides, sides[-1]))
        )
        width = config.channels // 4
        self.spread = StyledConv(config.channels, width * PATCH**2, w_width=config.w_width)
        self.last_rgb = StyledConv(width, 3, w_width=config.w_width, demodulate=False)

    @property
    def image_size(self) -> int:
        """Side of the faces in pixels."""
        return self.config.image_size

    @property
    def z_width(self) -> int:
        """Width of z."""
        return self.config.z_width

    @property
    def w_width(self) -> int:
        """Width of w."""
        return self.config.w_width

    def mapping(self, z: Tensor) -> Tensor:
        """w (N, w_width) of z (N, z_width)."""
        h = pixel_norm(z)
        for layer in self.layers:
            h = leaky(layer(h))
        return h

    def synthesis(self, w: Tensor) -> Tensor:
        """Faces (N, 3, S, S) of w (N, w_width)."""
        h = self.constant.expand(len(w), -1, -1, -1)
        rgb = h.new_zeros(1, 3, 1, 1)
        for number, block in enumerate(self.blocks):
            h, more = block(h, w)
            rgb = rgb + more
            if number + 1 < len(self.blocks):
                h, rgb = doubled(h), doubled(rgb)
        h = blur(F.pixel_shuffle(leaky(self.spread(h, w)), PATCH))
        full: Tensor = doubled(rgb) + self.last_rgb(h, w)
        return full

    def forward(self, z: Tensor) -> Tensor:
        return self.synthesis(self.mapping(z))

    @torch.no_grad()
    def set_w_mean(self) -> None:
        """Set `w_mean` to the mean over 10,000 fixed z, under the present weights."""
        z = torch.randn(MEAN_SAMPLES, self.z_width, generator=torch.Generator().manual_seed(MEAN_SEED))
        self.w_mean.copy_(self.mapping(z.to(self.w_mean.device)).mean(0))


class SynthesisBlock(nn.Module):
    """Two styled convolutions at one resolution, and what this resolution adds to the picture."""

    def __init__(self, inputs: int, outputs: int, *, w_width: int) -> None:
        super().__init__()
        self.first = StyledConv(inputs, inputs, w_width=w_width)
        self.second = StyledConv(inputs, outputs, w_width=w_width)
        self.rgb = StyledConv(outputs, 3, w_width=w_width, kernel=1, demodulate=False)

    def forward(self, x: Tensor, w: Tensor) -> tuple[Tensor, Tensor]:
        h = leaky(self.second(leaky(self.first(x, w)), w))
        return h, self.rgb(h, w)


class Critic(nn.Module):
    """Images (N, 3, S, S) to scores (N,): higher for images that look real."""

    def __init__(self, config: GanConfig) -> None:
        super().__init__()
        self.config = config
        sides = config.sides[::-1]
        self.first = EqualConv(3 * PATCH**2, config.channels)
        self.blocks = nn.ModuleList(
            CriticBlock(config.width_at(side), config.width_at(after)) for side, after in pairwise(sides)
        )
        width = config.width_at(sides[-1])
        self.last = EqualConv(width, width)
        self.hidden = EqualLinear(width * sides[-1] ** 2, width)
        self.score = EqualLinear(width, 1)

    def forward(self, x: Tensor) -> Tensor:
        h = leaky(self.first(F.pixel_unshuffle(x, PATCH)))
        for block in self.blocks:
            h = block(h)
        h = leaky(self.last(h)).flatten(1)
        scores: Tensor = self.score(leaky(self.hidden(h)))
        return at_least_float32(scores.squeeze(1))


class CriticBlock(nn.Module):
    """A residual block to half the resolution."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.first = EqualConv(inputs, inputs)
        self.second = EqualConv(inputs, outputs)
        self.skip = EqualConv(inputs, outputs, kernel=1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        h = leaky(self.second(F.avg_pool2d(leaky(self.first(x)), 2)))
        shortcut: Tensor = self.skip(F.avg_pool2d(x, 2))
        return (h + shortcut) * HALVES
