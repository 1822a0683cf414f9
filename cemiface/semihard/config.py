"""What a user sets about CemiFace: its denoiser, its loss and the values of m. Importing it does not import torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import Field, PositiveInt, model_validator

from cemiface.diffusion.config import UNET_PRESETS, UNetConfig
from cemiface.values import Cosine, FrozenModel, require

SIMILARITY_WIDTHS = {"paper112": 512, "small64": 128, "tiny64": 64, "small32": 128, "tiny32": 64}

PRESETS: dict[str, dict[str, Any]] = {
    name: {**unet, "similarity_width": SIMILARITY_WIDTHS[name]} for name, unet in UNET_PRESETS.items()
}


class DenoiserConfig(UNetConfig):
    """The U-Net with CemiFace's condition on identity and similarity; the defaults are the paper's."""

    PRESETS: ClassVar[Mapping[str, Mapping[str, Any]]] = PRESETS

    # The fields follow those of the U-Net: the order is part of the metadata of stored weights.
    embedding: PositiveInt = Field(
        512,
        description=(
            "Width of the identity embedding that the denoiser is conditioned on; that of E_id. The default "
            "is the usual 512 (paper, equation 5)."
        ),
    )
    similarity_width: PositiveInt = Field(
        512,
        description=(
            "Width of the linear layer that takes the scalar m (F1 in the paper, equation 6). The paper does "
            "not give it; 512 is the width of the embedding."
        ),
    )
    condition_tokens: PositiveInt = Field(
        1,
        description=(
            "Key and value tokens made of identity and similarity, per attention block (paper, equations 7 "
            "and 8). The paper does not give their number; small nets do better with 8."
        ),
    )
    identity_scale: Literal["unit", "raw"] = Field(
        "unit",
        description=(
            "unit: the identity is scaled to length sqrt(embedding), unit variance per entry; raw: as E_id "
            "gives it. The paper does not say; raw embeddings of different nets differ in length by 20 times."
        ),
    )


class LossConfig(FrozenModel):
    """Equation 14: MSE + weight * similarity matching."""

    weight: Annotated[float, Field(ge=0)] = Field(
        0.05,
        description=(
            "Weight of the similarity loss against the mean squared error, lambda in equation 14. The default "
            "is the paper's (table 14)."
        ),
    )
    clip_x0: bool = Field(
        True,
        description=(
            "Whether the predicted image is clipped to [-1, 1] before the recognition net. A clipped pixel "
            "takes no identity gradient. The paper does not say; DCFace clips."
        ),
    )


class SimilarityGrid(FrozenModel):
    """The values of m drawn in training; `interval: null` draws from the whole range."""

    low: Cosine = Field(-1.0, description="Lowest m, -1 to 1. The default is the paper's (section 4.1).")
    high: Cosine = Field(
        1.0, description="Highest m, -1 to 1, at least `low`. The default is the paper's (section 4.1)."
    )
    interval: Annotated[float, Field(gt=0)] | None = Field(
        0.02,
        description=(
            "Distance of neighboring values of m. The default is that of section 4.1; the headline run has "
            "0.04 (section 4.3.1, table 2). null draws m from the whole range, which the paper found the net "
            "to ignore (section 4.2.1)."
        ),
    )

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

    weight: Annotated[float, Field(gt=0)] = Field(
        1.0, description="Share of the images that this part gets, relative to the weights of the other parts."
    )

    @model_validator(mode="after")
    def _check_interval(self) -> Self:
        require(self.interval is not None, "interval", None, "a number: images are counted by their requested m")
        return self

    def at(self, quantile: float) -> float:
        """The grid's value at a quantile, 0 to below 1."""
        values = self.values
        return values[min(int(quantile * len(values)), len(values) - 1)]


def mixture_values(parts: Sequence[MixturePart], *, count: int, offset: float) -> list[float]:
    """`count` values of m in the proportions of the parts, as evenly as whole images allow, from low to high per part.

    Systematic sampling: the quantiles are 1 / count apart, and the first is at offset / count, with `offset` from 0
    to below 1. If offsets are uniform over identities, every part has its exact share on average.
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
