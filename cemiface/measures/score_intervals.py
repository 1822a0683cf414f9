"""Statistics of mated and non-mated scores with bootstrap intervals over identities.

Images of one identity, and pairs that share an identity, are not independent. So whole identities are drawn with
replacement, and a pair counts as often as its identities were drawn: a non-mated pair the product of both.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cemiface.errors import ModelError
from cemiface.recognition.scores import BINS
from cemiface.recognition.verification import Floats

Labels = NDArray[np.int64]

FINE = np.linspace(-1, 1, 4001)  # bins of 0.0005, in which error rates of a resample are counted
SMOOTHING = 0.5  # counts added to every bin of `BINS` for a divergence
ROUNDS = 200
LOW, HIGH = 2.5, 97.5  # percentiles of an interval


@dataclass(frozen=True, kw_only=True)
class PairScores:
    """Scores of one set, with the identities of each pair.

    Attributes:
        mated: (P,) cosines of two images of one identity; mated_of: (P,) that identity, 0..C-1.
        non_mated: (Q,) cosines; non_mated_of: (Q, 2) the two identities.
        identities: C.
    """

    mated: Floats
    mated_of: Labels
    non_mated: Floats
    non_mated_of: Labels
    identities: int

    def within(self, chosen: NDArray[np.bool_]) -> PairScores:
        """The pairs whose identities are all chosen (C,).

        Raises:
            ModelError: no mated or no non-mated pair is left.
        """
        mated, non_mated = chosen[self.mated_of], chosen[self.non_mated_of].all(axis=1)
        if not mated.any() or not non_mated.any():
            raise ModelError(f"scores: {int(chosen.sum())} identities have no mated or no non-mated pair")
        return PairScores(
            mated=self.mated[mated],
            mated_of=self.mated_of[mated],
            non_mated=self.non_mated[non_mated],
            non_mated_of=self.non_mated_of[non_mated],
            identities=self.identities,
        )

    def statistics(self, drawn: Floats | None = None) -> dict[str, float]:
        """Means, error rates and Fisher ratio; `drawn` (C,) is how often each identity counts, once by default."""
        times = np.ones(self.identities) if drawn is None else drawn
        mated_weights = times[self.mated_of]
        non_mated_weights = times[self.non_mated_of].prod(axis=1)
        mean, variance = _moments(self.mated, mated_weights)
        other_mean, other_variance = _moments(self.non_mated, non_mated_weights)
        below = np.cumsum(_shares(self.mated, mated_weights, bins=FINE))  # false non-matches at each upper edge
        above = 1 - np.cumsum(_shares(self.non_mated, non_mated_weights, bins=FINE))  # false matches there
        crossing = int(np.argmin(np.abs(above - below)))
        return {
            "mated_mean": mean,
            "non_mated_mean": other_mean,
            "eer": float((above[crossing] + below[crossing]) / 2),
            "fmr100": float(below[above <= 1e-2].min(initial=1.0)),
            "fmr1000": float(below[above <= 1e-3].min(initial=1.0)),
            "fisher": float((mean - other_mean) ** 2 / max(variance + other_variance, 1e-12)),
        }

    def histograms(self, drawn: Floats | None = None) -> tuple[Floats, Floats]:
        """Smoothed shares of the mated and of the non-mated scores per bin of `BINS`, as divergences compare them."""
        times = np.ones(self.identities) if drawn is None else drawn
        sides = ((self.mated, times[self.mated_of]), (self.non_mated, times[self.non_mated_of].prod(axis=1)))
        return (_smoothed(*sides[0]), _smoothed(*sides[1]))


def interval(
    statistic: Callable[[np.random.Generator], dict[str, float]], *, seed: int, rounds: int = ROUNDS
) -> dict[str, tuple[float, float]]:
    """The 95 % percentile interval of each value of a statistic that draws its own resample."""
    draw = np.random.default_rng(seed)
    found = [statistic(draw) for _ in range(rounds)]
    return {
        name: (float(low), float(high))
        for name in found[0]
        for low, high in [np.percentile([one[name] for one in found], (LOW, HIGH))]
    }


def drawn_identities(count: int, *, draw: np.random.Generator) -> Floats:
    """How often each of `count` identities is drawn, `count` times with replacement."""
    return np.bincount(draw.integers(0, count, count), minlength=count).astype(np.float64)


def statistics_intervals(scores: PairScores, *, seed: int, rounds: int = ROUNDS) -> dict[str, tuple[float, float]]:
    """The intervals of `PairScores.statistics`."""
    return interval(
        lambda draw: scores.statistics(drawn_identities(scores.identities, draw=draw)), seed=seed, rounds=rounds
    )


def divergences(
    one: PairScores, other: PairScores, *, one_drawn: Floats | None = None, other_drawn: Floats | None = None
) -> dict[str, float]:
    """KL divergences in nats of the mated and non-mated scores of two sets, both ways.

    Over the 100 bins of `BINS` from -1 to 1, with half a count added to each.
    """
    found = {}
    for side, p, q in zip(
        ("mated", "non_mated"), one.histograms(one_drawn), other.histograms(other_drawn), strict=True
    ):
        found[f"kl_{side}"] = float((p * np.log(p / q)).sum())
        found[f"kl_{side}_back"] = float((q * np.log(q / p)).sum())
    return found


def divergence_intervals(
    one: PairScores, other: PairScores, *, seed: int, rounds: int = ROUNDS
) -> dict[str, tuple[float, float]]:
    """The intervals of `divergences`, both sets drawn again."""
    return interval(
        lambda draw: divergences(
            one,
            other,
            one_drawn=drawn_identities(one.identities, draw=draw),
            other_drawn=drawn_identities(other.identities, draw=draw),
        ),
        seed=seed,
        rounds=rounds,
    )


def _moments(scores: Floats, weights: Floats) -> tuple[float, float]:
    total = max(float(weights.sum()), 1e-12)
    mean = float((weights * scores).sum() / total)
    return mean, float((weights * (scores - mean) ** 2).sum() / total)


def _shares(scores: Floats, weights: Floats, *, bins: Floats) -> Floats:
    counts = np.histogram(np.clip(scores, -1, 1), bins=bins, weights=weights)[0]
    shares: Floats = counts / max(float(counts.sum()), 1e-12)
    return shares


def _smoothed(scores: Floats, weights: Floats) -> Floats:
    counts = np.histogram(np.clip(scores, -1, 1), bins=BINS, weights=weights)[0] + SMOOTHING
    shares: Floats = counts / counts.sum()
    return shares
