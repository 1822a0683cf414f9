"""The hypotheses about a copy: how it may have been altered. The search tries all of them on every picture."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from shards.privacy.copies.degradations import SHRUNK, blur_matrix, shrunk_matrix, unenlarging
from shards.privacy.copies.pictures import MIRRORED, TURNS, UNTURNED
from shards.privacy.copies.views import GRID, Sampling, View, sampling_of, squares
from shards.privacy.copies.whitening import NOISE

ALL_TURNS = tuple(range(TURNS))
UPRIGHT = (UNTURNED, MIRRORED)
TURNED = tuple(turn for turn in ALL_TURNS if turn not in UPRIGHT)

DETAILS = 0.015  # noise of blends, in mean variances: lower, so that details count more

STEP = 1 / 16  # of the width, between shifts: the whitened pictures of a reference still correlate at half of it

SQUARES = (0, 1, 2, 4, 5, 6, 8, 9, 10)  # first cells of covered squares, along either axis

HALF = 0.63  # visible part below which a picture counts as half covered

# Families are compared with strangers each on its own: the fewer cells are compared, and the fewer hypotheses a family
# has, the lower are the scores of strangers. So what is likely has small families of its own.
FAMILIES = (
    "aligned",
    "blended",
    "shifted",
    "cropped_centrally",
    "cropped_10",
    "cropped_20",
    "cropped_30",
    "rotated",
    "smaller",
    "covered",
    "half_covered",
    "slightly_blurred",
    "blurred",
    "very_blurred",
    "quarter_size",
    "turned_and_blurred",
)


@dataclass(frozen=True, kw_only=True)
class Hypothesis:
    """An alteration up to turns, mirroring, light and inversion.

    Attributes:
        family: of `FAMILIES`.
        turns: turns of the picture that are tried with it.
        sampling: reads the compared values from pictures, (V,) of each.
        noise: of the whitening, in mean variances.
        degradation: (V, 400), from the cells of a reference to the values; None: the visible cells.
    """

    family: str
    turns: Sequence[int]
    sampling: Sampling
    noise: float = NOISE
    degradation: np.ndarray | None = None


def all_hypotheses() -> list[Hypothesis]:
    """Every hypothesis, those of a family together, in the order of `FAMILIES`."""
    found = [
        *_shifts(),
        *_blends(),
        *_central_crops(),
        *_crops(),
        *_rotations(),
        *_smaller(),
        *_covered(),
        *_degraded(),
    ]
    return sorted(found, key=lambda hypothesis: FAMILIES.index(hypothesis.family))


def _shifts() -> Iterator[Hypothesis]:
    """Up to 1/8 of the width, and none."""
    for x, y in squares(STEP, 5):
        turns = ALL_TURNS if max(abs(x), abs(y)) <= STEP else UPRIGHT
        family = "shifted" if x or y else "aligned"
        yield Hypothesis(family=family, turns=turns, sampling=sampling_of(View(x=x, y=y)))


def _blends() -> Iterator[Hypothesis]:
    """Blends with another face. That face adds mostly coarse structure, so fine details count more here."""
    yield Hypothesis(family="blended", turns=UPRIGHT, sampling=sampling_of(View()), noise=DETAILS)


def _central_crops() -> Iterator[Hypothesis]:
    """Down to 65 % of the width, in steps of 2.5 %."""
    for step in range(1, 15):
        view = View(scale=1 - 0.025 * step)
        yield Hypothesis(family="cropped_centrally", turns=UPRIGHT, sampling=sampling_of(view))


def _crops() -> Iterator[Hypothesis]:
    """Down to 65 % of the width, off the center by as much as it allows."""
    for family, scale, step, count in (
        ("cropped_10", 0.95, 0.0, 1),
        ("cropped_10", 0.9, 0.033, 4),
        ("cropped_10", 0.9, 0.0, 1),
        ("cropped_20", 0.85, 0.0375, 5),
        ("cropped_20", 0.8, 0.033, 7),
        ("cropped_30", 0.75, 0.042, 7),
        ("cropped_30", 0.7, 0.0375, 9),
        ("cropped_30", 0.65, 0.0, 1),
    ):
        for x, y in squares(step, count):
            turns = ALL_TURNS if x == y == 0 else UPRIGHT
            yield Hypothesis(family=family, turns=turns, sampling=sampling_of(View(scale=scale, x=x, y=y)))


def _rotations() -> Iterator[Hypothesis]:
    for degrees in (7.5, 15.0, 22.5, 30.0):
        for scale in (1.0, 0.9) if degrees <= 15 else (1.0,):
            for sign in (1, -1):
                view = View(scale=scale, degrees=sign * degrees)
                yield Hypothesis(family="rotated", turns=ALL_TURNS, sampling=sampling_of(view))


def _smaller() -> Iterator[Hypothesis]:
    for scale in (1.1, 1.2):
        yield Hypothesis(family="smaller", turns=ALL_TURNS, sampling=sampling_of(View(scale=scale)))


def _covered() -> Iterator[Hypothesis]:
    """Pictures that are covered from one side, by a square of half the width, or by a bar of a quarter of it."""
    whole = sampling_of(View(), margin=-1)
    for mask in _masks():
        family = "half_covered" if mask.mean() <= HALF else "covered"
        sampling = Sampling(visible=mask.reshape(-1), rows=whole.rows, columns=whole.columns)
        yield Hypothesis(family=family, turns=UPRIGHT, sampling=sampling)


def _masks() -> Iterator[np.ndarray]:
    """(20, 20) bool, what is visible."""

    def without(rows: slice, columns: slice) -> np.ndarray:
        mask = np.ones((GRID, GRID), bool)
        mask[rows, columns] = False
        return mask

    everything = slice(None)
    for depth in (8, 10, 12):
        for side in (slice(0, depth), slice(GRID - depth, GRID)):
            yield without(side, everything)
            yield without(everything, side)
    for top in SQUARES:
        for left in SQUARES:
            yield without(slice(top, top + 10), slice(left, left + 10))
    for first in (0, 2, 5, 8, 10, 12, 15):
        yield without(slice(first, first + 5), everything)
        yield without(everything, slice(first, first + 5))
    for first in (5, 6):
        yield without(slice(first, first + 6), everything)


def _degraded() -> Iterator[Hypothesis]:
    """Blur by 1.5, 2 and 3 px of 32, and pictures at a quarter of their size. What they lose, nobody compares."""
    whole = sampling_of(View(), margin=-1)
    axis = unenlarging()
    small = Sampling(visible=np.ones(SHRUNK**2, bool), rows=axis, columns=axis)
    for family, sampling, noise, degradation in (
        ("slightly_blurred", whole, 2e-3, blur_matrix(1.5 * GRID / 32)),
        ("blurred", whole, 2e-3, blur_matrix(2.0 * GRID / 32)),
        ("very_blurred", whole, 1.6e-2, blur_matrix(3.0 * GRID / 32)),
        ("quarter_size", small, 5e-3, shrunk_matrix()),
    ):
        for name, turns in ((family, UPRIGHT), ("turned_and_blurred", TURNED)):
            yield Hypothesis(family=name, turns=turns, sampling=sampling, noise=noise, degradation=degradation)
