"""Demographic targets: which cell each candidate belongs to, and how many identities each cell gets."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

GENDER, AGE = "gender", "age"
GENDERS = ("female", "male")
ROUNDS = 1000  # of raking; it converges within tens where the shares can be met


class TargetError(ValueError):
    """A demographic target that cannot be met, in one line."""


@dataclass(frozen=True, kw_only=True)
class AgeBand:
    """Ages `low` to `high` in whole years, both included."""

    low: int
    high: float

    def holds(self, age: float) -> bool:
        return self.low <= age < self.high + 1


def age_band(text: str) -> AgeBand:
    """The band that "18-29" or "60+" names.

    Raises:
        TargetError: it names none.
    """
    low, separator, high = text.partition("-")
    if text.endswith("+") and text[:-1].isdecimal() and text.isascii():
        return AgeBand(low=int(text[:-1]), high=math.inf)
    if not (separator and low.isdecimal() and high.isdecimal() and text.isascii()) or int(low) > int(high):
        raise TargetError(f"got {text!r}; allowed: bands such as 18-29 or 60+")
    return AgeBand(low=int(low), high=int(high))


def check_bands(bands: Sequence[str]) -> None:
    """Refuse bands that overlap.

    Raises:
        TargetError: two do, or one is no band.
    """
    ordered = sorted((age_band(band) for band in bands), key=lambda band: band.low)
    for one, two in pairwise(ordered):
        if two.low <= one.high:
            raise TargetError(f"got bands that overlap at {two.low}; allowed: bands that do not")


def category(name: str, values: Mapping[str, float], *, labels: Sequence[str]) -> str | None:
    """Which label of an attribute a face has; None if it has none of them.

    Args:
        name: `gender`, `age`, or the name of a net of the user's, whose probabilities are `name.label`.
        values: the measured attributes of the face.
        labels: those of the target.
    """
    if name == GENDER:
        found = GENDERS[int(values["male"] >= 0.5)]
    elif name == AGE:
        found = next((label for label in labels if age_band(label).holds(values["age"])), "")
    else:
        every = {key.removeprefix(f"{name}."): value for key, value in values.items() if key.startswith(f"{name}.")}
        found = max(every, key=lambda label: every[label])
    return found if found in labels else None


def raked(pool: np.ndarray, shares: Sequence[np.ndarray]) -> np.ndarray:
    """Shares of the joint cells that have the given marginals and are otherwise as in the pool.

    Iterative proportional fitting (Deming and Stephan 1940).

    Args:
        pool: candidates per cell, one axis per attribute.
        shares: of each attribute's labels, each adding up to 1.

    Raises:
        TargetError: empty cells of the pool make the marginals impossible.
    """
    joint: np.ndarray = pool / max(pool.sum(), 1)
    axes = range(pool.ndim)
    for _ in range(ROUNDS):
        for axis, wished in enumerate(shares):
            others = tuple(other for other in axes if other != axis)
            marginal = joint.sum(axis=others, keepdims=True)
            factor = np.divide(
                wished.reshape(marginal.shape), marginal, out=np.zeros_like(marginal), where=marginal > 0
            )
            joint = joint * factor
        worst = max(
            float(np.abs(joint.sum(axis=tuple(other for other in axes if other != axis)) - wished).max())
            for axis, wished in enumerate(shares)
        )
        if worst < 1e-9:
            return joint
    if worst < 1e-3:
        return joint
    raise TargetError(f"no candidates are in cells that the shares need (the nearest shares are off by {worst:.3f})")


def candidates_needed(*, pool: int, wanted: Mapping[str, int], taken: Mapping[str, int]) -> dict[str, int | None]:
    """For each cell that stayed short: how many candidates it would take at the rate seen; None if none was usable."""
    short = {cell: number for cell, number in wanted.items() if taken.get(cell, 0) < number}
    return {cell: math.ceil(pool * number / taken[cell]) if taken.get(cell) else None for cell, number in short.items()}
