"""Types that configs share. Importing this module does not import torch."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

Fraction = Annotated[float, Field(ge=0, le=1)]

Cosine = Annotated[float, Field(ge=-1, le=1)]

Interval = tuple[Fraction, Fraction]


class FrozenModel(BaseModel):
    """Base of configs: unknown fields are refused, values cannot be changed."""

    model_config = ConfigDict(frozen=True, extra="forbid")


def require(condition: bool, field: str, got: object, allowed: str) -> None:
    """Refuse an impossible value in one line: field, got, allowed."""
    if not condition:
        raise ValueError(f"{field}: got {got}; allowed: {allowed}")
