"""The paper's U-Net, written straightforwardly in the layout of the ADM code family, as a peer for benchmarks.

Same blocks, widths and number of multiplications as `cemiface.semihard.denoiser`, with other details: one fused
query-key-value projection as Conv1d, attention as two einsums around a float32 softmax with both sides scaled, the
condition prepended to keys and values, a dropout of zero, resampling inside lists of layers, NCHW memory.
"""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cemiface.diffusion.config import OUTPUT_CHANNELS
from cemiface.diffusion.unet import timestep_embedding
from cemiface.semihard.config import DenoiserConfig


class Norm32(nn.GroupNorm):
    def forward(self, input: Tensor) -> Tensor:  # noqa: A002 (torch's name)
        return super().forward(input.float()).type(input.dtype)


class Residual(nn.Module):
    def __init__(self, inputs: int, outputs: int, *, time_width: int, resample: str | None = None) -> None:
        super().__init__()
        self.resample = resample
        self.in_layers = nn.Sequential(Norm32(32, inputs), nn.SiLU(), nn.Conv2d(inputs, outputs, 3, padding=1))
        self.emb_layers = nn.Sequential(nn.SiLU(), nn.Linear(time_width, 2 * outputs))
        self.out_layers = nn.Sequential(
            Norm32(32, outputs), nn.SiLU(), nn.Dropout(0.0), nn.Conv2d(outputs, outputs, 3, padding=1)
        )
        self.skip = nn.Identity() if inputs == outputs else nn.Conv2d(inputs, outputs, 1)

    def forward(self, x: Tensor, emb: Tensor) -> Tensor:
        h = self.in_layers[-1](resized(self.in_layers[:-1](x), self.resample))
        x = resized(x, self.resample)
        scale, shift = self.emb_layers(emb)[..., None, None].chunk(2, dim=1)
        h = self.out_layers[0](h) * (1 + scale) + shift
        return self.skip(x) + self.out_layers[1:](h)


def resized(x: Tensor, resample: str | None) -> Tensor:
    if resample == "down":
        return F.avg_pool2d(x, kernel_size=2, stride=2)
    if resample == "up":
        return F.interpolate(x, scale_factor=2, mode="nearest")
    return x


class LegacyAttention(nn.Module):
    def __init__(self, channels: int, *, head_channels: int, condition_width: int) -> None:
        super().__init__()
        self.heads = channels // head_channels
        self.norm = Norm32(32, channels)
        self.qkv = nn.Conv1d(channels, 3 * channels, 1)
        self.adapter = nn.Conv1d(condition_width, 2 * channels, 1)
        self.proj = nn.Conv1d(channels, channels, 1)

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        n, channels, *spatial = x.shape
        x = x.reshape(n, channels, -1)
        qkv = self.qkv(self.norm(x))
        length, width = qkv.shape[-1], channels // self.heads
        q, k, v = qkv.reshape(n * self.heads, 3 * width, length).split(width, dim=1)
        extra = self.adapter(condition[:, :, None]).reshape(n * self.heads, 2 * width, -1)
        k_condition, v_condition = extra.split(width, dim=1)
        k, v = torch.cat([k_condition, k], dim=-1), torch.cat([v_condition, v], dim=-1)
        scale = 1 / math.sqrt(math.sqrt(width))
        weight = torch.einsum("bct,bcs->bts", q * scale, k * scale)
        weight = torch.softmax(weight.float(), dim=-1).type(weight.dtype)
        h = torch.einsum("bts,bcs->bct", weight, v).reshape(n, channels, length)
        return (x + self.proj(h)).reshape(n, channels, *spatial)


class ReferenceDenoiser(nn.Module):
    """The interface of `cemiface.semihard.denoiser.Denoiser`."""

    def __init__(self, config: DenoiserConfig) -> None:
        super().__init__()
        self.config = config
        time_width = 4 * config.channels
        self.time_embed = nn.Sequential(
            nn.Linear(config.channels, time_width), nn.SiLU(), nn.Linear(time_width, time_width)
        )
        self.similarity = nn.Linear(1, config.similarity_width)
        width = config.channels * config.multipliers[0]
        self.stem = nn.Conv2d(3, width, 3, padding=1)
        self.input_blocks, self.output_blocks = nn.ModuleList(), nn.ModuleList()
        skips = [width]
        for level, multiplier in enumerate(config.multipliers):
            outputs = config.channels * multiplier
            self.input_blocks.append(self._layers(width, outputs, level=level))
            width = outputs
            skips.append(width)
            if level + 1 < len(config.multipliers):
                down = None if level == config.skip_downsample_level else "down"
                self.input_blocks.append(nn.ModuleList([Residual(width, width, time_width=time_width, resample=down)]))
                skips.append(width)
        self.middle_block = nn.ModuleList(
            [
                Residual(width, width, time_width=time_width),
                self._attention(width),
                Residual(width, width, time_width=time_width),
            ]
        )
        for level, multiplier in reversed(list(enumerate(config.multipliers))):
            outputs = config.channels * multiplier
            for index in range(2):
                layers = self._layers(width + skips.pop(), outputs, level=level)
                width = outputs
                if level > 0 and index == 1:
                    up = None if level - 1 == config.skip_downsample_level else "up"
                    layers.append(Residual(width, width, time_width=time_width, resample=up))
                self.output_blocks.append(layers)
        self.out = nn.Sequential(Norm32(32, width), nn.SiLU(), nn.Conv2d(width, OUTPUT_CHANNELS, 3, padding=1))

    def forward(self, x: Tensor, t: Tensor, identity: Tensor, m: Tensor, null: Tensor | None = None) -> Tensor:
        emb = self.time_embed(timestep_embedding(t, self.config.channels))
        condition = torch.cat([identity, self.similarity(m[:, None])], dim=1)
        h = self.stem(x)
        skips = [h]
        for layers in self.input_blocks:
            h = run(layers, h, emb, condition)
            skips.append(h)
        h = run(self.middle_block, h, emb, condition)
        for layers in self.output_blocks:
            h = run(layers, torch.cat([h, skips.pop()], dim=1), emb, condition)
        eps, _ = torch.split(self.out(h), 3, dim=1)
        return eps

    def _layers(self, inputs: int, outputs: int, *, level: int) -> nn.ModuleList:
        layers = nn.ModuleList([Residual(inputs, outputs, time_width=4 * self.config.channels)])
        if level in self.config.attention_levels:
            layers.append(self._attention(outputs))
        return layers

    def _attention(self, width: int) -> LegacyAttention:
        condition = self.config.embedding + self.config.similarity_width
        return LegacyAttention(width, head_channels=self.config.head_channels, condition_width=condition)


def run(layers: Any, h: Tensor, emb: Tensor, condition: Tensor) -> Tensor:
    for layer in layers:
        h = layer(h, emb) if isinstance(layer, Residual) else layer(h, condition)
    return h
