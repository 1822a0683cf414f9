"""What a user sets about the U-Net and the noise schedule. Importing this module does not import torch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import ConfigDict, Field, PositiveInt, model_validator

from cemiface.values import FrozenModel, require

GROUPS = 32  # of a GroupNorm; fewer where a group would have less than four channels

# Noise and, as in ADM with learned variances, three channels more. CemiFace neither trains nor reads those three; they
# are kept because the network of the paper has them.
OUTPUT_CHANNELS = 6

UNET_PRESETS: dict[str, dict[str, Any]] = {
    # The network of the paper: ADM at 112 px, 93,563,910 parameters and the condition's. For GPUs.
    "paper112": {},
    # 64-32-16-8 and 32-16-8, attention at 8x8: for hours on a CPU.
    "small64": {
        "image_size": 64,
        "channels": 32,
        "multipliers": (1, 2, 4, 4),
        "attention_levels": (3,),
        "head_channels": 32,
        "skip_downsample_level": None,
    },
    # 64 px at the cost of small32: the net works on blocks of 2x2 pixels.
    "tiny64": {
        "image_size": 64,
        "patch": 2,
        "channels": 32,
        "multipliers": (2, 3, 4),
        "attention_levels": (2,),
        "head_channels": 32,
        "skip_downsample_level": None,
    },
    "small32": {
        "image_size": 32,
        "channels": 64,
        "multipliers": (1, 2, 2),
        "attention_levels": (2,),
        "head_channels": 32,
        "skip_downsample_level": None,
    },
    # 32-16-8, for demos of minutes.
    "tiny32": {
        "image_size": 32,
        "channels": 32,
        "multipliers": (1, 2, 2),
        "attention_levels": (2,),
        "head_channels": 32,
        "skip_downsample_level": None,
    },
}


def _with_preset(schema: dict[str, Any]) -> None:
    """Add `preset` to the JSON schema: a config file may have it, although it is not a field."""
    schema["properties"]["preset"] = {
        "enum": list(UNET_PRESETS),
        "default": None,
        "description": (
            "Named set of these fields; fields given beside it win. paper112, the default of every field, is for GPUs; "
            "small64, tiny64 and small32 train in hours on a CPU, tiny32 is for demos of minutes."
        ),
        "title": "Preset",
    }


class UNetConfig(FrozenModel):
    """The U-Net of ADM (Dhariwal and Nichol 2021); the defaults are those of the CemiFace paper.

    `preset: tiny32` among the fields stands for that preset's fields; fields given beside it win. What is kept and
    dumped are the resulting fields, so a stored config does not depend on later presets.
    """

    model_config = ConfigDict(json_schema_extra=_with_preset)
    PRESETS: ClassVar[Mapping[str, Mapping[str, Any]]] = UNET_PRESETS

    image_size: PositiveInt = Field(
        112,
        description=(
            "Side of the square images in pixels; the default is the paper's. It must equal shard.image_size. "
            "Cost grows with its square: 38.4 GMAC per image at 112."
        ),
    )
    patch: Literal[1, 2, 4] = Field(
        1,
        description=(
            "Side in pixels of the blocks that the first level works on; each block's pixels become its input and "
            "output channels (pixel unshuffle and shuffle). 2 costs about a quarter of 1 at the same image size. The "
            "paper has none."
        ),
        exclude_if=lambda patch: patch == 1,  # added later: files and fingerprints of nets without it stay the same
    )
    channels: PositiveInt = Field(
        128,
        description=(
            "Channels of the first level, a multiple of 32. The default 128 is DCFace's U-Net, which CemiFace "
            "takes over (appendix A.1). Parameters grow with its square."
        ),
    )
    multipliers: Annotated[tuple[PositiveInt, ...], Field(min_length=1)] = Field(
        (1, 1, 2, 2, 4, 4),
        description=(
            "Channels of each level as multiples of `channels`; one entry per level. The default is DCFace's "
            "U-Net at 112 px, 93.6 million parameters in all."
        ),
    )
    blocks: PositiveInt = Field(
        1, description="Residual blocks per level of the encoder; the decoder has one more. The default is DCFace's."
    )
    attention_levels: tuple[int, ...] = Field(
        (4,),
        description=(
            "Levels, counted from 0, that have attention blocks; the middle block always has one. The default "
            "is DCFace's: 7x7 features at 112 px."
        ),
    )
    head_channels: PositiveInt = Field(
        64,
        description=(
            "Channels of one attention head; must divide the channels of every level with attention. The "
            "default is DCFace's, 8 heads at 512 channels."
        ),
    )
    skip_downsample_level: int | None = Field(
        4,
        description=(
            "The down block after this level (counted from 0) stays in place but does not downsample, nor "
            "does its mirror upsample. null: all do. The default is DCFace's at 112 px."
        ),
    )

    @classmethod
    def named(cls, preset: str, **fields: Any) -> Self:
        """The preset of that name with some fields changed."""
        return cls.model_validate({"preset": preset, **fields})

    @model_validator(mode="before")
    @classmethod
    def _expand_preset(cls, data: Any) -> Any:
        if not isinstance(data, dict):
            return data
        # YAML and JSON have no tuples, and after a "before" validator strict validation accepts nothing else.
        fields = {name: tuple(value) if isinstance(value, list) else value for name, value in data.items()}
        if "preset" not in fields:
            return fields
        preset = str(fields.pop("preset"))
        require(preset in cls.PRESETS, "preset", repr(preset), ", ".join(cls.PRESETS))
        return {**cls.PRESETS[preset], **fields}

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
        rate = self.patch * 2 ** (levels - 1 - (skip is not None))
        require(self.image_size % rate == 0, "image_size", self.image_size, f"a multiple of {rate}")
        return self


class DiffusionConfig(FrozenModel):
    """The noise schedule and what the net predicts under it.

    CemiFace does not state its schedule; the defaults are those of DCFace, which it builds on.
    """

    timesteps: Annotated[int, Field(ge=2)] = Field(
        1000,
        description="Steps of the noise schedule, T in the paper (appendix A.1). Sampling takes a subset of them.",
    )
    schedule: Literal["linear", "scaled_linear"] = Field(
        "linear",
        description=(
            "Shape of the noise schedule: the variances are linear in the step, or their square roots are "
            "(scaled_linear, as in Stable Diffusion). CemiFace does not state it; linear is DCFace's, which it builds "
            "on."
        ),
    )
    beta_start: Annotated[float, Field(gt=0, lt=1)] = Field(
        1e-4,
        description=(
            "Noise variance of the first step, above 0 and below 1. CemiFace does not state it; the default "
            "is DCFace's."
        ),
    )
    beta_end: Annotated[float, Field(gt=0, lt=1)] = Field(
        0.02,
        description=(
            "Noise variance of the last step, at least beta_start. CemiFace does not state it; the default is DCFace's."
        ),
    )
    prediction: Literal["noise", "velocity"] = Field(
        "noise",
        description=(
            "What the net predicts: noise, as in the paper (equation 9), or velocity (Salimans and Ho 2022, "
            "arXiv 2202.00512). With noise, errors in the image grow without bound where little of the image "
            "is left, so small nets need velocity."
        ),
    )

    @model_validator(mode="after")
    def _check(self) -> Self:
        require(self.beta_start <= self.beta_end, "beta_end", self.beta_end, f"at least beta_start {self.beta_start}")
        return self
