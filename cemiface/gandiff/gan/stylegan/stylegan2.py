"""StyleGAN2 (Karras et al. 2020, arXiv 1912.04958) in the configuration with skip connections, as trained with ADA.

Names and shapes of the weights are those of the official files. Noise is the constant one that is stored in them.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cemiface.gandiff.gan.layers import leaky
from cemiface.gandiff.gan.stylegan.config import Padding, StyleGan2Config
from cemiface.gandiff.gan.stylegan.mapping import Linear, StyleGan
from cemiface.gandiff.gan.stylegan.resample import modulated, resample

TAPS = 4  # of the filter (1, 3, 3, 1) that upsampling smooths with
TO_DOUBLE: Padding = (2, 1, 2, 1)  # that an image is of twice the size after filtering
BEFORE_CONV: Padding = (3, 2, 3, 2)  # with one more pixel on each side, for the convolution that follows


class StyleGan2(StyleGan):
    """z (N, z_width) to images (N, 3, S, S)."""

    def __init__(self, config: StyleGan2Config) -> None:
        super().__init__(config, image_size=config.image_size, synthesis=Synthesis(config))
        self.config = config


class Synthesis(nn.Module):
    """Blocks b4, b8, ... of doubling resolution."""

    def __init__(self, config: StyleGan2Config) -> None:
        super().__init__()
        self.sides = [4 * 2**level for level in range(len(config.widths))]
        before = 0
        for side, width in zip(self.sides, config.widths, strict=True):
            self.add_module(f"b{side}", Block(before, width, side=side, config=config))
            before = width

    def forward(self, w: Tensor) -> Tensor:
        x: Tensor | None = None
        picture: Tensor | None = None
        for side in self.sides:
            x, picture = self.get_submodule(f"b{side}")(x, picture, w)
        assert picture is not None
        return picture


class Block(nn.Module):
    """Two styled convolutions, the first of which doubles the resolution; the first block starts from a constant."""

    resample_filter: Tensor

    def __init__(self, inputs: int, width: int, *, side: int, config: StyleGan2Config) -> None:
        super().__init__()
        self.register_buffer("resample_filter", torch.ones(TAPS, TAPS) / TAPS**2)
        if inputs:
            self.conv0 = Layer(inputs, width, side=side, up=2, config=config)
        else:
            self.const = nn.Parameter(torch.randn(width, side, side))
        self.conv1 = Layer(width, width, side=side, up=1, config=config)
        self.torgb = ToRgb(width, config=config)

    def forward(self, x: Tensor | None, picture: Tensor | None, w: Tensor) -> tuple[Tensor, Tensor]:
        h = self.const.expand(len(w), -1, -1, -1) if x is None else self.conv0(x, w)
        h = self.conv1(h, w)
        added: Tensor = self.torgb(h, w)
        if picture is not None:
            added = added + resample(picture, self.resample_filter, up=2, padding=TO_DOUBLE)
        return h, added


class Layer(nn.Module):
    """Styled convolution, constant noise, leaky ReLU."""

    noise_const: Tensor
    resample_filter: Tensor

    def __init__(self, inputs: int, outputs: int, *, side: int, up: int, config: StyleGan2Config) -> None:
        super().__init__()
        self.up, self.clamp = up, config.clamp
        self.affine = Linear(config.w_width, inputs, bias=1.0)
        self.weight = nn.Parameter(torch.randn(outputs, inputs, 3, 3))
        self.bias = nn.Parameter(torch.zeros(outputs))
        self.noise_strength = nn.Parameter(torch.zeros([]))
        self.register_buffer("noise_const", torch.randn(side, side))
        self.register_buffer("resample_filter", torch.ones(TAPS, TAPS) / TAPS**2)

    def forward(self, x: Tensor, w: Tensor) -> Tensor:
        style = self.affine(w)
        weight: Tensor = self.weight
        if self.up > 1:  # by a true convolution, which F.conv2d computes with a flipped kernel
            x, weight = resample(x, self.resample_filter, up=self.up, padding=BEFORE_CONV), weight.flip(2, 3)
        h = modulated(x, weight=weight, style=style, demodulate=True, padding=0 if self.up > 1 else 1)
        h = leaky(h + self.noise_const * self.noise_strength + self.bias[:, None, None])
        return h if self.clamp is None else h.clamp(-self.clamp, self.clamp)


class ToRgb(nn.Module):
    """Features to what a block adds to the picture."""

    def __init__(self, inputs: int, *, config: StyleGan2Config) -> None:
        super().__init__()
        self.clamp, self.scale = config.clamp, 1 / inputs**0.5
        self.affine = Linear(config.w_width, inputs, bias=1.0)
        self.weight = nn.Parameter(torch.randn(3, inputs, 1, 1))
        self.bias = nn.Parameter(torch.zeros(3))

    def forward(self, x: Tensor, w: Tensor) -> Tensor:
        style = self.affine(w) * self.scale
        h = F.conv2d(x * style[:, :, None, None], self.weight) + self.bias[:, None, None]
        return h if self.clamp is None else h.clamp(-self.clamp, self.clamp)
