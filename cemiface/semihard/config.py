"""TODO-DOC"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Self

from pydantic import Field, model_validator

from cemiface.values import Cosine, FrozenModel, require


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
