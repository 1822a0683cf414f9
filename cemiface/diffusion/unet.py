"""The ADM U-Net of DCFace (Dhariwal and Nichol 2021, arXiv 2105.05233) with a condition that the caller supplies.

The timestep enters through adaptive group norm. The condition enters as extra key/value tokens in every attention
block. Nothing else is conditioned.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cemiface.diffusion.blocks import Attention, GroupNorm, Resample, ResidualBlock, silu, zero_init
from cemiface.diffusion.config import OUTPUT_CHANNELS, UNetConfig

TIME_PERIOD = 10_000


class Condition(nn.Module):
    """Base class of a method's condition.

    Its forward maps the method's inputs to vectors (N, width), or to sequences (N, L, width). Every attention block
    makes `tokens` key/value tokens of each vector.
    """

    def __init__(self, *, width: int, tokens: int = 1) -> None:
        super().__init__()
        self.width, self.tokens = width, tokens


class Level(nn.Module):
    """A residual block, then optionally attention, then optionally an upsampling block."""

    def __init__(self, block: ResidualBlock, attention: Attention | None = None, up: ResidualBlock | None = None):
        super().__init__()
        self.block, self.attention, self.up = block, attention, up

    def forward(self, x: Tensor, time: Tensor, condition: Tensor) -> Tensor:
        x = self.block(x, time)
        if self.attention is not None:
            x = self.attention(x, condition)
        return x if self.up is None else self.up(x, time)


class UNet(nn.Module):
    """Predicts the noise in x_t or its velocity, whichever it was trained for (`DiffusionConfig.prediction`)."""

    def __init__(self, config: UNetConfig, *, condition: Condition) -> None:
        super().__init__()
        self.config = config
        self.condition = condition
        time_width = 4 * config.channels
        self.time = nn.Sequential(nn.Linear(config.channels, time_width), nn.SiLU(), nn.Linear(time_width, time_width))
        first = config.channels * config.multipliers[0]
        pixels = config.patch**2  # of a block
        self.stem = nn.Conv2d(3 * pixels, first, 3, padding=1)
        encoder, skips = self._encoder()
        self.encoder = nn.ModuleList(encoder)
        last = skips[-1]
        self.middle = Level(self._block(last, last), self._attention(last))
        self.middle_out = Level(self._block(last, last))
        self.decoder = nn.ModuleList(self._decoder(last, skips))
        self.norm = GroupNorm(first)
        self.output = zero_init(nn.Conv2d(first, OUTPUT_CHANNELS * pixels, 3, padding=1))

    def forward(self, x: Tensor, t: Tensor, *inputs: Tensor | None) -> Tensor:
        """The prediction (N, 3, S, S) for x (N, 3, S, S) around [-1, 1] at t (N,) long in 0..T-1.

        `inputs` are those of the condition's forward, in its order.
        """
        time = F.silu(self.time(timestep_embedding(t, self.config.channels)))
        condition = self.condition(*inputs)
        h = self.stem(F.pixel_unshuffle(x, self.config.patch))
        skips = [h]
        for level in self.encoder:
            h = level(h, time, condition)
            skips.append(h)
        h = self.middle_out(self.middle(h, time, condition), time, condition)
        for level in self.decoder:
            h = level(torch.cat([h, skips.pop()], dim=1), time, condition)
        output: Tensor = self.output(silu(self.norm(h)))
        return F.pixel_shuffle(output, self.config.patch)[:, :3]

    def parameter_counts(self) -> tuple[int, int]:
        """Numbers of parameters of the U-Net proper, and of everything the condition goes through."""
        adapter = sum(p.numel() for name, p in self.named_parameters() if "condition" in name.split("."))
        return sum(p.numel() for p in self.parameters()) - adapter, adapter

    def _encoder(self) -> tuple[list[nn.Module], list[int]]:
        """The levels down, and the output channels of the stem and of every level."""
        config = self.config
        width = config.channels * config.multipliers[0]
        levels: list[nn.Module] = []
        skips = [width]
        for index, multiplier in enumerate(config.multipliers):
            for _ in range(config.blocks):
                block = self._block(width, config.channels * multiplier)
                width = config.channels * multiplier
                levels.append(Level(block, self._attention_at(index, width)))
                skips.append(width)
            if index + 1 < len(config.multipliers):
                levels.append(Level(self._block(width, width, self._resample(index, "down"))))
                skips.append(width)
        return levels, skips

    def _decoder(self, width: int, skips: list[int]) -> Iterator[nn.Module]:
        """The levels up; each takes one of the skips, the last first."""
        config, skips = self.config, list(skips)
        for index, multiplier in reversed(list(enumerate(config.multipliers))):
            outputs = config.channels * multiplier
            for number in range(config.blocks + 1):
                block = self._block(width + skips.pop(), outputs)
                width = outputs
                rises = index > 0 and number == config.blocks
                up = self._block(width, width, self._resample(index - 1, "up")) if rises else None
                yield Level(block, self._attention_at(index, width), up)

    def _block(self, inputs: int, outputs: int, resample: Resample = None) -> ResidualBlock:
        return ResidualBlock(inputs, outputs, time_width=4 * self.config.channels, resample=resample)

    def _attention(self, width: int) -> Attention:
        return Attention(
            width,
            head_channels=self.config.head_channels,
            condition_width=self.condition.width,
            condition_tokens=self.condition.tokens,
        )

    def _attention_at(self, level: int, width: int) -> Attention | None:
        # By level, as ADM does by nominal rate: the level after a skipped downsampling has 7x7 too but no attention.
        return self._attention(width) if level in self.config.attention_levels else None

    def _resample(self, level: int, direction: Resample) -> Resample:
        return None if level == self.config.skip_downsample_level else direction


def timestep_embedding(t: Tensor, width: int) -> Tensor:
    """Cosines and sines of t (N,) at width / 2 frequencies from 1 to 1 / 10,000: (N, width) in float32."""
    half = width // 2
    frequencies = torch.exp(-math.log(TIME_PERIOD) * torch.arange(half, device=t.device, dtype=torch.float32) / half)
    angles = t.float()[:, None] * frequencies
    return torch.cat([angles.cos(), angles.sin()], dim=1)
