"""What a user sets about CemiFace: its denoiser, its loss and the values of m. Importing it does not import torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import Field, PositiveInt, model_validator

from cemiface.diffusion.config import UNET_PRESETS, UNetConfig
from cemiface.values import Cosine, FrozenModel, require

SIMILARITY_WIDTHS = {"paper112": 512, "small64": 128, "small32": 128, "tiny32": 64}

PRESETS: dict[str, dict[str, Any]] = {
    name: {**unet, "similarity_width": SIMILARITY_WIDTHS[name]} for name, unet in UNET_PRESETS.items()
}


class DenoiserConfig(UNetConfig):
    """The U-Net with CemiFace's condition on identity and similarity; the defaults are the paper's."""

    PRESETS: ClassVar[Mapping[str, Mapping[str, Any]]] = PRESETS

    # The fields follow those of the U-Net: the order is part of the metadata of stored weights.
    embedding: PositiveInt = 512
    similarity_width: PositiveInt = 512
    condition_tokens: PositiveInt = 1  # key/value tokens made of identity and similarity, per attention block
    # "unit": the identity is scaled to length sqrt(embedding), unit variance per entry. The paper does not specify it;
    # the lengths of raw embeddings differ between nets by a factor of 20, which "unit" removes.
    identity_scale: Literal["unit", "raw"] = "unit"


class LossConfig(FrozenModel):
    """Equation 14: MSE + weight * similarity matching."""

    weight: Annotated[float, Field(ge=0)] = 0.05  # lambda in the paper (table 14)
    clip_x0: bool = True  # before the recognition net; a clipped pixel gets no identity gradient


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
