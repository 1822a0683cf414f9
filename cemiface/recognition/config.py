"""What a user sets about recognition nets and their training. Importing this module does not import torch."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, PositiveInt, model_validator

from cemiface.values import Fraction, FrozenModel, Interval, require

RecognitionNet = Literal["ir18", "ir50", "ir100", "irse50", "mobilefacenet", "mobilefacenet_folded", "ir_tiny"]


class FoldedConfig(FrozenModel):
    """A MobileFaceNet whose batch norm is folded into the convolutions, as its weights file describes it."""

    dim: PositiveInt = 512
    last: tuple[PositiveInt, PositiveInt] = (7, 7)  # kernel of the global depthwise convolution
    act: Literal["prelu", "relu6", "relu"] = "prelu"
    stem_pw: bool = False  # the second layer has a pointwise convolution after the depthwise one
    bgr: bool = False
    crop: tuple[int, int] | None = None  # columns kept, for nets of 112x96
    scale: tuple[float, float, float] = (1.0, 1.0, 1.0)  # of the [-1, 1] RGB image, before bgr and crop
    shift: tuple[float, float, float] = (0.0, 0.0, 0.0)


class RecognitionConfig(FrozenModel):
    """A face recognition net: RGB in [-1, 1] at image_size in, one embedding out."""

    net: RecognitionNet = "irse50"
    embedding: PositiveInt = 512
    image_size: PositiveInt = 112
    color: Literal["RGB", "BGR"] = "RGB"  # what the weights were trained on; images here are always RGB
    # Of blocks that stride without widening: arcface_torch has a convolution there, AdaFace's nets subsample.
    shortcut: Literal["conv", "pool"] = "conv"
    folded: FoldedConfig | None = None

    @model_validator(mode="after")
    def _check(self) -> Self:
        rate = 8 if self.net == "ir_tiny" else 16
        require(self.image_size % rate == 0, "image_size", self.image_size, f"a multiple of {rate} for {self.net}")
        if self.net == "mobilefacenet_folded":
            require(self.folded is not None, "folded", None, "the layout in the weights file's metadata")
            require(self.color == "RGB", "color", self.color, "RGB; this net has folded.bgr instead")
        else:
            require(self.folded is None, "folded", "a layout", f"null for {self.net}")
        if self.folded is not None:
            require(self.embedding == self.folded.dim, "embedding", self.embedding, f"folded.dim {self.folded.dim}")
        return self


class MarginConfig(FrozenModel):
    """The margin softmax; the defaults are those recovered from the paper's released training log."""

    kind: Literal["cosface", "arcface", "adaface"] = "cosface"
    scale: Annotated[float, Field(gt=0)] = 64.0
    margin: Annotated[float, Field(ge=0, lt=1)] = 0.4
    concentration: Annotated[float, Field(gt=0)] = 0.333  # AdaFace's h
    norm_momentum: Annotated[float, Field(gt=0, le=1)] = 0.01  # of AdaFace's moments of the norm
    sample_rate: Annotated[float, Field(gt=0, le=1)] = 1.0  # of the classes taken into each step (partial FC)


class AugmentConfig(FrozenModel):
    """Augmentation for recognition training. The paper gives the ranges (section 4.1), not the probabilities.

    The probabilities are the usual ones of such transforms: crop and color always, erasing every second image.
    """

    crop_probability: Fraction = 1.0
    crop_area: Interval = (0.9, 1.0)  # of the image; square crops, resized to the full size
    color_probability: Fraction = 1.0
    brightness: Fraction = 0.1
    contrast: Fraction = 0.1
    saturation: Fraction = 0.1
    hue: Annotated[float, Field(ge=0, le=0.5)] = 0.1  # of a full turn
    erase_probability: Fraction = 0.5
    erase_area: Interval = (0.02, 0.1)

    @model_validator(mode="after")
    def _check(self) -> Self:
        for field, (low, high) in (("crop_area", self.crop_area), ("erase_area", self.erase_area)):
            require(0 < low <= high, field, (low, high), "low above 0 and not above high")
        return self
