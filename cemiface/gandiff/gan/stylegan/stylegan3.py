"""StyleGAN3 (Karras et al. 2021, arXiv 2106.12423), T and R.

Names and shapes of the weights are those of the official files.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cemiface.gandiff.gan.layers import GAIN, SLOPE
from cemiface.gandiff.gan.stylegan.config import StyleGan3Config, StyleGan3Layer
from cemiface.gandiff.gan.stylegan.mapping import Linear, StyleGan
from cemiface.gandiff.gan.stylegan.resample import modulated, resample


class StyleGan3(StyleGan):
    """z (N, z_width) to images (N, 3, S, S)."""

    def __init__(self, config: StyleGan3Config) -> None:
        super().__init__(config, image_size=config.image_size, synthesis=Synthesis(config))
        self.config = config


class Synthesis(nn.Module):
    """Fourier features and a chain of layers."""

    def __init__(self, config: StyleGan3Config) -> None:
        super().__init__()
        self.names, self.scale = [layer.name for layer in config.layers], config.output_scale
        self.input = FourierInput(config)
        for layer in config.layers:
            self.add_module(layer.name, Layer(layer, w_width=config.w_width))

    def forward(self, w: Tensor) -> Tensor:
        x = self.input(w)
        for name in self.names:
            x = self.get_submodule(name)(x, w)
        picture: Tensor = x * self.scale
        return picture


class FourierInput(nn.Module):
    """Sine waves on a grid, which w moves and rotates (section 3.2 and appendix F)."""

    freqs: Tensor
    phases: Tensor
    transform: Tensor

    def __init__(self, config: StyleGan3Config) -> None:
        super().__init__()
        channels = config.input_channels
        self.size, self.rate, self.bandwidth = config.input_size, config.sampling_rate, config.bandwidth
        self.weight = nn.Parameter(torch.randn(channels, channels))
        self.affine = Linear(config.w_width, 4, bias=(1.0, 0.0, 0.0, 0.0))
        self.register_buffer("transform", torch.eye(3))  # of the user's, applied to the whole picture
        self.register_buffer("freqs", torch.randn(channels, 2))
        self.register_buffer("phases", torch.rand(channels) - 0.5)

    def forward(self, w: Tensor) -> Tensor:
        turn = self.affine(w)  # cosine and sine of a rotation, and a shift
        turn = turn / turn[:, :2].norm(dim=1, keepdim=True)
        transforms = self._rotation(turn) @ self._shift(turn) @ self.transform
        phases = self.phases + (self.freqs @ transforms[:, :2, 2:]).squeeze(2)  # (N, C)
        freqs = self.freqs @ transforms[:, :2, :2]  # (N, C, 2)
        # Waves above the bandwidth fade out towards half of the sampling rate.
        faded = (freqs.norm(dim=2) - self.bandwidth) / (self.rate / 2 - self.bandwidth)
        amplitudes = (1 - faded).clamp(0, 1)
        waves = self._grid() @ freqs.mT[:, None] + phases[:, None, None]  # (N, H, W, C)
        waves = torch.sin(2 * math.pi * waves) * amplitudes[:, None, None]
        weight = self.weight / math.sqrt(self.weight.shape[0])
        return F.linear(waves, weight).permute(0, 3, 1, 2)

    def _grid(self) -> Tensor:
        """Places (H, W, 2) of the pixels, x first; the picture without margins spans -0.5 to 0.5."""
        axes = [
            (torch.arange(size, device=self.freqs.device, dtype=self.freqs.dtype) - (size - 1) / 2) / self.rate
            for size in self.size
        ]
        y, x = torch.meshgrid(axes[1], axes[0], indexing="ij")
        return torch.stack([x, y], 2)

    @staticmethod
    def _rotation(turn: Tensor) -> Tensor:
        matrix = torch.eye(3, device=turn.device, dtype=turn.dtype).repeat(len(turn), 1, 1)
        matrix[:, 0, 0], matrix[:, 0, 1], matrix[:, 1, 0], matrix[:, 1, 1] = (
            turn[:, 0],
            -turn[:, 1],
            turn[:, 1],
            turn[:, 0],
        )
        return matrix

    @staticmethod
    def _shift(turn: Tensor) -> Tensor:
        matrix = torch.eye(3, device=turn.device, dtype=turn.dtype).repeat(len(turn), 1, 1)
        matrix[:, 0, 2], matrix[:, 1, 2] = -turn[:, 2], -turn[:, 3]
        return matrix


class Layer(nn.Module):
    """Styled convolution and a leaky ReLU between an upsampling and a downsampling filter (section 3.1)."""

    magnitude_ema: Tensor
    up_filter: Tensor | None
    down_filter: Tensor | None

    def __init__(self, config: StyleGan3Layer, *, w_width: int) -> None:
        super().__init__()
        self.config = config
        self.affine = Linear(w_width, config.inputs, bias=1.0)
        self.weight = nn.Parameter(torch.randn(config.outputs, config.inputs, config.kernel, config.kernel))
        self.bias = nn.Parameter(torch.zeros(config.outputs))
        self.register_buffer("magnitude_ema", torch.ones([]))
        for name, taps in (("up_filter", config.up_taps), ("down_filter", config.down_taps)):
            self.register_buffer(name, None if taps is None else torch.ones(taps) / math.prod(taps))

    def forward(self, x: Tensor, w: Tensor) -> Tensor:
        config, style = self.config, self.affine(w)
        weight: Tensor = self.weight
        if config.to_rgb:
            style = style / math.sqrt(weight[0].numel())
        else:  # weights and styles of mean square 1; the demodulation takes all but rounding of it back
            weight = weight * weight.square().mean((1, 2, 3), keepdim=True).rsqrt()
            style = style * style.square().mean(1, keepdim=True).rsqrt()
        h = modulated(x, weight=weight, style=style, demodulate=not config.to_rgb, padding=config.kernel - 1)
        h = h * self.magnitude_ema.rsqrt() + self.bias[:, None, None]
        h = resample(h, self.up_filter, up=config.up, padding=config.padding)
        if not config.to_rgb:
            h = F.leaky_relu(h, SLOPE) * GAIN
        if config.clamp is not None:
            h = h.clamp(-config.clamp, config.clamp)
        return resample(h, self.down_filter, down=config.down)
