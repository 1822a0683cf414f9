"""What a user sets about the style-based GAN. Importing this module does not import torch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import ConfigDict, Field, PositiveInt, model_validator

from cemiface.values import Fraction, FrozenModel, require

PATCH = 2  # side of the pixel blocks that one position of the last internal resolution stands for

FIRST_SIDES = range(4, 8)  # of the learned constant that the generator starts from

Width = Annotated[int, Field(ge=1, le=8192)]

Augmentation = Literal["color", "translation", "cutout"]

GAN_PRESETS: dict[str, dict[str, Any]] = {
    # For GPUs: the widths of StyleGAN2's smaller configuration.
    "gan128": {},
    "gan112": {"image_size": 112},
    # For hours on a CPU.
    "small64": {
        "image_size": 64,
        "z_width": 256,
        "w_width": 256,
        "mapping_layers": 4,
        "channels": 32,
        "most_channels": 256,
    },
    "small32": {
        "image_size": 32,
        "z_width": 128,
        "w_width": 128,
        "mapping_layers": 4,
        "channels": 64,
        "most_channels": 128,
    },
    # For tests of seconds.
    "tiny32": {
        "image_size": 32,
        "z_width": 32,
        "w_width": 32,
        "mapping_layers": 2,
        "channels": 8,
        "most_channels": 16,
    },
}


def _with_preset(schema: dict[str, Any]) -> None:
    """Add `preset` to the JSON schema: a config file may have it, although it is not a field."""
    schema["properties"]["preset"] = {
        "enum": list(GAN_PRESETS),
        "default": None,
        "description": (
            "Named set of these fields; fields given beside it win. gan128, the default of every field, and gan112 are "
            "for GPUs; small64 and small32 train in hours on a CPU, tiny32 is for tests of seconds."
        ),
        "title": "Preset",
    }


class GanConfig(FrozenModel):
    """The generator and the critic; `preset: NAME` stands for the fields of that preset."""

    model_config = ConfigDict(json_schema_extra=_with_preset)
    PRESETS: ClassVar[Mapping[str, Mapping[str, Any]]] = GAN_PRESETS

    image_size: PositiveInt = Field(
        128,
        description=(
            "Side of the square images in pixels: 4, 5, 6 or 7 times a power of two, at least 8. It must equal "
            "shard.image_size. Cost grows with its square."
        ),
    )
    z_width: Width = Field(512, description="Width of the normal noise z. The default is StyleGAN's.")
    w_width: Width = Field(
        512, description="Width of the latent w, in which portraits are edited. The default is StyleGAN's."
    )
    mapping_layers: Annotated[int, Field(ge=1, le=64)] = Field(
        8, description="Layers of the mapping network from z to w. The default is StyleGAN's."
    )
    channels: Width = Field(
        128,
        description=(
            "Channels of both nets at half the image size, their highest internal resolution; a multiple of 4. They "
            "double with every halving of the resolution. Cost grows with their square."
        ),
    )
    most_channels: Width = Field(
        512, description="Channels of a layer at most, at least `channels`. The default is StyleGAN2's."
    )

    @classmethod
    def named(cls, preset: str, **fields: Any) -> Self:
        """The preset of that name with some fields changed."""
        return cls.model_validate({"preset": preset, **fields})

    @model_validator(mode="before")
    @classmethod
    def _expand_preset(cls, data: Any) -> Any:
        if not isinstance(data, dict) or "preset" not in data:
            return data
        fields = dict(data)
        preset = str(fields.pop("preset"))
        require(preset in cls.PRESETS, "preset", repr(preset), ", ".join(cls.PRESETS))
        return {**cls.PRESETS[preset], **fields}

    @model_validator(mode="after")
    def _check(self) -> Self:
        sides = self.sides
        allowed = "4, 5, 6 or 7 times a power of two, from 8 to 1024"
        fits = len(sides) > 0 and sides[-1] * PATCH == self.image_size and 8 <= self.image_size <= 1024
        require(fits, "image_size", self.image_size, allowed)
        require(self.channels % 4 == 0, "channels", self.channels, "a multiple of 4")
        require(self.most_channels >= self.channels, "most_channels", self.most_channels, f"at least {self.channels}")
        return self

    @property
    def sides(self) -> tuple[int, ...]:
        """The internal resolutions, from that of the learned constant to half of the image size."""
        side = self.image_size // PATCH
        found = [side]
        while side not in FIRST_SIDES and side % 2 == 0 and side > 0:
            side //= 2
            found.insert(0, side)
        return tuple(found) if side in FIRST_SIDES else ()

    def width_at(self, side: int) -> int:
        """Channels of both nets at an internal resolution."""
        return min(self.most_channels, self.channels * (self.sides[-1] // side))


class GanLossConfig(FrozenModel):
    """The relativistic pairing loss with penalties on the critic's gradient (Huang et al. 2024, arXiv 2501.05441)."""

    gamma: Annotated[float, Field(ge=0)] = Field(
        1.0,
        description=(
            "Weight of R1 and R2, the squared norms of the critic's gradient at real and at generated images. Too "
            "little lets the critic win, too much blurs. R3GAN goes from 2 to 0.2 on faces of 64 px."
        ),
    )
    penalty_every: PositiveInt = Field(
        16,
        description=(
            "Steps from one computation of R1 and R2 to the next, which then count that many times (StyleGAN2, "
            "section 3.1). 1 costs about two thirds more time."
        ),
    )
    augment: tuple[Augmentation, ...] = Field(
        ("color", "translation", "cutout"),
        description=(
            "Random changes of every image that the critic sees, real or generated (DiffAugment, arXiv 2006.10738). "
            "Below 100,000 images a critic without them memorizes the real ones. Empty: none."
        ),
    )
    augment_probability: Fraction = Field(
        0.7,
        description=(
            "Probability of each kind of change, 0 to 1. Below 0.8 the generator does not learn the changes "
            "themselves (Karras et al. 2020, arXiv 2006.06676, figure 2)."
        ),
    )

    @model_validator(mode="after")
    def _check(self) -> Self:
        require(len(set(self.augment)) == len(self.augment), "augment", self.augment, "each kind at most once")
        return self
