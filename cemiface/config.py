"""What a user may set about the method. Importing this module does not import torch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, PositiveInt, model_validator

Fraction = Annotated[float, Field(ge=0, le=1)]
Cosine = Annotated[float, Field(ge=-1, le=1)]
Interval = tuple[Fraction, Fraction]
GROUPS = 32  # of every GroupNorm in the denoiser, or fewer, of four channels each
# Of the denoiser: noise and, as in ADM with learned variances, three channels more. CemiFace neither trains nor reads
# those; they are kept because the network of the paper has them.
OUTPUT_CHANNELS = 6

PRESETS: dict[str, dict[str, Any]] = {
    # The network of the paper: ADM at 112 px, 93,563,910 parameters and the adapter. For GPUs.
    "paper112": {},
    # 64-32-16-8 and 32-16-8, attention at 8x8: for hours on a CPU.
    "small64": {
        "image_size": 64,
        "channels": 32,
        "multipliers": (1, 2, 4, 4),
        "attention_levels": (3,),
        "head_channels": 32,
        "skip_downsample_level": None,
        "similarity_width": 128,
    },
    "small32": {
        "image_size": 32,
        "channels": 64,
        "multipliers": (1, 2, 2),
        "attention_levels": (2,),
        "head_channels": 32,
        "skip_downsample_level": None,
        "similarity_width": 128,
    },
    # 32-16-8, for demos of minutes.
    "tiny32": {
        "image_size": 32,
        "channels": 32,
        "multipliers": (1, 2, 2),
        "attention_levels": (2,),
        "head_channels": 32,
        "skip_downsample_level": None,
        "similarity_width": 64,
    },
}


class FrozenModel(BaseModel):
    """Values a user sets: unknown fields are refused, known ones never change."""

    model_config = ConfigDict(frozen=True, extra="forbid")


def require(condition: bool, field: str, got: object, allowed: str) -> None:
    """Refuse an impossible value in one line: field, got, allowed."""
    if not condition:
        raise ValueError(f"{field}: got {got}; allowed: {allowed}")


class DenoiserConfig(FrozenModel):
    """The U-Net (method of ADM, Dhariwal and Nichol 2021) and its condition adapter; the defaults are the paper's.

    `preset: tiny32` among the fields stands for that preset's fields; fields given beside it win. What is kept and
    dumped are the resulting fields, so a stored config does not depend on later presets.
    """

    image_size: PositiveInt = 112
    channels: PositiveInt = 128
    multipliers: Annotated[tuple[PositiveInt, ...], Field(min_length=1)] = (1, 1, 2, 2, 4, 4)
    blocks: PositiveInt = 1
    attention_levels: tuple[int, ...] = (4,)
    head_channels: PositiveInt = 64
    # The down block after this level (counted from 0) stays in place but does not downsample, nor its mirror upsample.
    skip_downsample_level: int | None = 4
    embedding: PositiveInt = 512
    similarity_width: PositiveInt = 512
    condition_tokens: PositiveInt = 1  # key/value tokens made of identity and similarity, per attention block
    # "unit": the identity is scaled to length sqrt(embedding), unit variance per entry. The paper does not say; raw
    # embeddings of different nets differ in length by 20 times, which "unit" takes out.
    identity_scale: Literal["unit", "raw"] = "unit"

    @classmethod
    def named(cls, preset: str, **fields: Any) -> Self:
        """The preset of that name with some fields changed."""
        return cls.model_validate({"preset": preset, **fields})

    @model_validator(mode="before")
    @classmethod
    def _expand_preset(cls, data: Any) -> Any:
        if not isinstance(data, dict):
            return data
        # YAML and JSON have no tuples, and strict validation takes nothing else once this method was in between.
        fields = {name: tuple(value) if isinstance(value, list) else value for name, value in data.items()}
        if "preset" not in fields:
            return fields
        preset = str(fields.pop("preset"))
        require(preset in PRESETS, "preset", repr(preset), ", ".join(PRESETS))
        return {**PRESETS[preset], **fields}

    @model_validator(mode="after")
    def _check(self) -> Self:
        levels = len(self.multipliers)
        require(self.channels % GROUPS == 0, "channels", self.channels, f"a multiple of {GROUPS}")
        skip = self.skip_downsample_level
        require(
            skip is None or 0 <= skip < levels - 1,
            "skip_downsample_level",
            skip,
            f"null or a level with a down block, 0 to {levels - 2}",
        )
        for level in self.attention_levels:
            require(0 <= level < levels, "attention_levels", level, f"levels 0 to {levels - 1}")
        for level in {*self.attention_levels, levels - 1}:  # the middle block at the last level attends too
            width = self.channels * self.multipliers[level]
            require(
                width % self.head_channels == 0,
                "head_channels",
                self.head_channels,
                f"a divisor of the {width} channels of level {level}",
            )
        rate = 2 ** (levels - 1 - (skip is not None))
        require(self.image_size % rate == 0, "image_size", self.image_size, f"a multiple of {rate}")
        return self


class DiffusionConfig(FrozenModel):
    """The noise schedule, which CemiFace does not state (these are the values of DCFace, which it builds on), and what
    the net predicts under it.
    """

    timesteps: Annotated[int, Field(ge=2)] = 1000
    schedule: Literal["linear"] = "linear"
    beta_start: Annotated[float, Field(gt=0, lt=1)] = 1e-4
    beta_end: Annotated[float, Field(gt=0, lt=1)] = 0.02
    # "noise" is the paper's (eq. 9). Where next to nothing is left of the image, an error of 1 % in it is one of 100 %
    # in the image; "velocity" (Salimans and Ho 2022, arXiv 2202.00512) has no such place, which small nets need.
    prediction: Literal["noise", "velocity"] = "noise"

    @model_validator(mode="after")
    def _check(self) -> Self:
        require(self.beta_start <= self.beta_end, "beta_end", self.beta_end, f"at least beta_start {self.beta_start}")
        return self


class LossConfig(FrozenModel):
    """Equation 14: MSE + weight * similarity matching."""

    weight: Annotated[float, Field(ge=0)] = 0.05  # lambda in the paper (table 14)
    clip_x0: bool = True  # before the recognition net; a clipped pixel takes no identity gradient


class SimilarityGrid(FrozenModel):
    """The values of m drawn in training; `interval: null` draws from the whole range."""

    low: Cosine = -1.0
    high: Cosine = 1.0
    interval: Annotated[float, Field(gt=0)] | None = 0.02

    @model_validator(mode="after")
    def _check(self) -> Self:
        require(self.low <= self.high, "high", self.high, f"at least low {self.low}")
        return self

    @property
    def values(self) -> tuple[float, ...]:
        """The grid from low up to high, or to the last value below it; needs an interval."""
        assert self.interval is not None
        count = int((self.high - self.low) / self.interval + 1e-6) + 1
        return tuple(round(self.low + index * self.interval, 9) for index in range(count))


class MixturePart(SimilarityGrid):
    """A share of the generated images, its m spread evenly over a grid; `low` = `high` is one value."""

    weight: Annotated[float, Field(gt=0)] = 1.0

    @model_validator(mode="after")
    def _check_interval(self) -> Self:
        require(self.interval is not None, "interval", None, "a number: images are counted by what was asked of them")
        return self

    def at(self, quantile: float) -> float:
        """The grid's value at a quantile, 0 to below 1."""
        values = self.values
        return values[min(int(quantile * len(values)), len(values) - 1)]


def mixture_values(parts: Sequence[MixturePart], *, count: int, offset: float) -> list[float]:
    """`count` values of m in the proportions of the parts, as even as whole images allow, from low to high per part.

    Systematic sampling: quantiles one `count`-th apart, the first at `offset` (0 to below 1) of that. Offsets that
    are uniform over identities give every part its exact share in the mean.
    """
    total = sum(part.weight for part in parts)
    values = []
    for index in range(count):
        left = (index + offset) / count * total
        for part in parts:
            if left < part.weight or part is parts[-1]:
                break
            left -= part.weight
        values.append(part.at(left / part.weight))
    return values


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
    # Of units that stride without widening: arcface_torch has a convolution there, AdaFace's nets pick pixels.
    shortcut: Literal["conv", "pool"] = "conv"
    folded: FoldedConfig | None = None

    @model_validator(mode="after")
    def _check(self) -> Self:
        rate = 8 if self.net == "ir_tiny" else 16
        require(self.image_size % rate == 0, "image_size", self.image_size, f"a multiple of {rate} for {self.net}")
        if self.net == "mobilefacenet_folded":
            require(self.folded is not None, "folded", None, "the layout that stands in the weights file's metadata")
            require(self.color == "RGB", "color", self.color, "RGB; folded.bgr says it for this net")
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
