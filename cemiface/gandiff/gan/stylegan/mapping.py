"""What StyleGAN2 and StyleGAN3 share: linear layers with an equalized learning rate, and the mapping network."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cemiface.gandiff.gan.layers import leaky, pixel_norm
from cemiface.gandiff.gan.stylegan.config import MappingConfig


class Linear(nn.Module):
    """Linear layer whose stored weights are 1 / rate times those in use, but for the scale 1 / sqrt(inputs)."""

    def __init__(self, inputs: int, outputs: int, *, rate: float = 1.0, bias: float | Sequence[float] = 0.0) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(outputs, inputs) / rate)
        self.bias = nn.Parameter((torch.zeros(outputs) + torch.tensor(bias)) / rate)
        self.scale, self.rate = rate / inputs**0.5, rate

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x, self.weight * self.scale, self.bias * self.rate)


class Mapping(nn.Module):
    """z to w, with the mean of w; names as in the official files."""

    w_avg: Tensor

    def __init__(self, config: MappingConfig) -> None:
        super().__init__()
        self.count = config.mapping_layers
        width = config.z_width
        for number in range(self.count):
            self.add_module(f"fc{number}", Linear(width, config.w_width, rate=config.mapping_rate))
            width = config.w_width
        self.register_buffer("w_avg", torch.zeros(config.w_width))

    def forward(self, z: Tensor) -> Tensor:
        h = pixel_norm(z)
        for number in range(self.count):
            h = leaky(self.get_submodule(f"fc{number}")(h))
        return h


class StyleGan(nn.Module):
    """A given generator, as `cemiface.gandiff.gan.generator.StyleGenerator` describes it."""

    mapping: Mapping
    synthesis: nn.Module

    def __init__(self, config: MappingConfig, *, image_size: int, synthesis: nn.Module) -> None:
        super().__init__()
        self.image_size, self.z_width, self.w_width = image_size, config.z_width, config.w_width
        self.mapping, self.synthesis = Mapping(config), synthesis

    @property
    def w_mean(self) -> Tensor:
        """The mean of w, as it was averaged in training."""
        return self.mapping.w_avg
