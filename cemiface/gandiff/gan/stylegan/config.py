"""The shapes of given StyleGAN generators, as their safetensors files describe them. Imports no torch."""

from __future__ import annotations

from typing import Annotated, Self

from pydantic import Field, model_validator

from cemiface.values import FrozenModel, require

MOST = 4096  # of any width or side; more is no generator of faces

Width = Annotated[int, Field(ge=1, le=MOST)]
Padding = tuple[int, int, int, int]  # left, right, top, bottom; negative ones crop


class MappingConfig(FrozenModel):
    """The mapping network from z to w."""

    z_width: Width
    w_width: Width
    mapping_layers: Annotated[int, Field(ge=1, le=64)]
    mapping_rate: Annotated[float, Field(gt=0)] = 0.01


class StyleGan2Config(MappingConfig):
    """StyleGAN2 with skip connections: one block per resolution from 4 to the image size."""

    widths: Annotated[tuple[Width, ...], Field(min_length=1, max_length=10)]  # channels at 4, 8, 16 ...
    clamp: float | None = None  # largest absolute value of features, in nets that were trained with 16 bits

    @property
    def image_size(self) -> int:
        """Side of the images in pixels."""
        return int(4 * 2 ** (len(self.widths) - 1))


class StyleGan3Layer(FrozenModel):
    """One layer of StyleGAN3; the filters themselves are tensors of the file."""

    name: Annotated[str, Field(pattern=r"^L\d+_\d+_\d+$")]
    inputs: Width
    outputs: Width
    kernel: Annotated[int, Field(ge=1, le=7)]
    up: Annotated[int, Field(ge=1, le=8)]
    down: Annotated[int, Field(ge=1, le=8)]
    padding: Padding
    up_taps: tuple[Width, ...] | None  # shape of the filter: one number if separable; None: no filter
    down_taps: tuple[Width, ...] | None
    to_rgb: bool
    clamp: float | None = None


class StyleGan3Config(MappingConfig):
    """StyleGAN3, both translation (T) and rotation (R) equivariant ones."""

    image_size: Width
    input_channels: Width
    input_size: tuple[Width, Width]
    sampling_rate: Annotated[float, Field(gt=0)]
    bandwidth: Annotated[float, Field(gt=0)]
    output_scale: float = 0.25
    layers: Annotated[tuple[StyleGan3Layer, ...], Field(min_length=1, max_length=64)]

    @model_validator(mode="after")
    def _check(self) -> Self:
        widths = [self.input_channels, *(layer.outputs for layer in self.layers)]
        fits = [layer.inputs for layer in self.layers] == widths[:-1] and widths[-1] == 3
        require(fits, "layers", "widths that do not follow each other", "a chain from input_channels to 3")
        return self
