"""Parameters and multiply-accumulates of a U-Net, computed from its config without torch."""

from __future__ import annotations

from dataclasses import dataclass

from cemiface.diffusion.config import OUTPUT_CHANNELS, UNetConfig


@dataclass(frozen=True, kw_only=True)
class UNetCost:
    """Parameters, and multiply-accumulates of a forward pass of one image, without biases and norms."""

    parameters: int  # of the U-Net without the adapter; 93,563,910 in the paper
    adapter_parameters: int  # of all layers that process the condition
    macs: int
    layers: tuple[LayerShape, ...] = ()  # convolutions, and the projections of attention


@dataclass(frozen=True, kw_only=True)
class LayerShape:
    """A layer as a matrix: the values that each output is made of, and the outputs per position."""

    inputs: int
    outputs: int
    attends: bool  # whether it is a projection of attention


class _Sum:
    """Running totals; each method adds one layer or block."""

    def __init__(self) -> None:
        self.parameters = self.adapter = self.macs = 0
        self.layers: list[LayerShape] = []

    def conv(self, inputs: int, outputs: int, *, kernel: int, size: int, attends: bool = False) -> None:
        self.parameters += (inputs * kernel**2 + 1) * outputs
        self.macs += inputs * kernel**2 * outputs * size**2
        self.layers.append(LayerShape(inputs=inputs * kernel**2, outputs=outputs, attends=attends))

    def linear(self, inputs: int, outputs: int) -> None:
        self.parameters += (inputs + 1) * outputs
        self.macs += inputs * outputs

    def condition(self, inputs: int, outputs: int, *, vectors: int) -> None:
        self.adapter += (inputs + 1) * outputs
        self.macs += inputs * outputs * vectors
        self.layers.append(LayerShape(inputs=inputs, outputs=outputs, attends=True))

    def residual(self, inputs: int, outputs: int, *, size: int, time: int) -> None:
        """A residual block whose convolutions work at `size`."""
        self.parameters += 2 * inputs + 2 * outputs  # two norms
        self.conv(inputs, outputs, kernel=3, size=size)
        self.linear(time, 2 * outputs)
        self.conv(outputs, outputs, kernel=3, size=size)
        if inputs != outputs:
            self.conv(inputs, outputs, kernel=1, size=size)

    def attention(self, width: int, *, size: int, condition: int, tokens: int, vectors: int) -> None:
        self.parameters += 2 * width
        self.conv(width, 3 * width, kernel=1, size=size, attends=True)
        self.conv(width, width, kernel=1, size=size, attends=True)
        self.condition(condition, 2 * tokens * width, vectors=vectors)
        self.macs += 2 * size**2 * (size**2 + tokens * vectors) * width


def unet_cost(
    config: UNetConfig, *, condition_width: int, condition_tokens: int, condition_vectors: int = 1
) -> UNetCost:
    """Cost of `UNet` with a sequence of condition vectors, without the layers that compute these vectors."""
    total, time, size = _Sum(), 4 * config.channels, config.image_size // config.patch
    total.linear(config.channels, time)
    total.linear(time, time)

    def attend(width: int) -> None:
        total.attention(width, size=size, condition=condition_width, tokens=condition_tokens, vectors=condition_vectors)

    width = config.channels * config.multipliers[0]
    total.conv(3 * config.patch**2, width, kernel=3, size=size)
    skips = [width]
    for level, multiplier in enumerate(config.multipliers):
        for _ in range(config.blocks):
            total.residual(width, config.channels * multiplier, size=size, time=time)
            width = config.channels * multiplier
            if level in config.attention_levels:
                attend(width)
            skips.append(width)
        if level + 1 < len(config.multipliers):
            size //= 1 if level == config.skip_downsample_level else 2
            total.residual(width, width, size=size, time=time)
            skips.append(width)
    total.residual(width, width, size=size, time=time)
    attend(width)
    total.residual(width, width, size=size, time=time)
    for level, multiplier in reversed(list(enumerate(config.multipliers))):
        for _ in range(config.blocks + 1):
            total.residual(width + skips.pop(), config.channels * multiplier, size=size, time=time)
            width = config.channels * multiplier
            if level in config.attention_levels:
                attend(width)
        if level > 0:
            size *= 1 if level - 1 == config.skip_downsample_level else 2
            total.residual(width, width, size=size, time=time)
    total.parameters += 2 * width
    total.conv(width, OUTPUT_CHANNELS * config.patch**2, kernel=3, size=size)
    layers = tuple(total.layers)
    return UNetCost(parameters=total.parameters, adapter_parameters=total.adapter, macs=total.macs, layers=layers)
