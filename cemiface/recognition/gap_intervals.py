"""Whether recognition nets differ on a benchmark: 95 % intervals of accuracies and gaps, over people and seeds.

Pairs of a benchmark are not independent: a person is in many of them. So people are drawn with replacement, not pairs
(the vertex bootstrap of arXiv 2306.01198): with w_i the times that person i is drawn, a pair of i and j
counts w_i w_j times, a pair of i alone w_i times. Two nets are compared on the same draws, and nets of one seed, which
share their first weights and order of images, are drawn together. Thresholds are those chosen on all pairs.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

ROUNDS = 2000
PERCENTILES = (2.5, 97.5)


@dataclass(frozen=True, kw_only=True)
class Decisions:
    """What the nets of several seeds decided on one benchmark.

    Attributes:
        right: (S, P), 1 where the net of that seed decided the pair rightly, else 0; of a gap, the difference of two.
        people: (P, 2) the identities of each pair, 0..C-1.
    """

    right: NDArray[np.float64]
    people: NDArray[np.int64]

    @staticmethod
    def read(texts: Sequence[str], *, people: NDArray[np.int64]) -> Decisions:
        """From a text per seed, as `decisions_text` writes them."""
        return Decisions(right=np.array([[float(bit) for bit in text] for text in texts]), people=people)

    def less(self, other: Decisions) -> Decisions:
        """These less the others', pair by pair and seed by seed: their mean is the gap."""
        return Decisions(right=self.right - other.right, people=self.people)


def decisions_text(right: NDArray[np.bool_]) -> str:
    """Which pairs (P,) a net decided rightly, as a text of 0 and 1."""
    return "".join(np.where(right, "1", "0"))


def mean_interval(benchmarks: Sequence[Decisions], *, seed: int, rounds: int = ROUNDS) -> tuple[float, float]:
    """The interval of the mean over benchmarks of the decisions' mean over pairs and seeds.

    People are drawn for each benchmark by itself, seeds for all of them. A single seed is not drawn: the interval is
    then of people alone. With few seeds it is somewhat too narrow, as every bootstrap of few values is.
    """
    draw = np.random.default_rng(seed)
    means = np.empty(rounds)
    seeds = len(benchmarks[0].right)
    for number in range(rounds):
        chosen = draw.integers(0, seeds, seeds)
        means[number] = np.mean([_drawn_mean(decisions, chosen, draw=draw) for decisions in benchmarks])
    low, high = np.percentile(means, PERCENTILES)
    return float(low), float(high)


def _drawn_mean(decisions: Decisions, chosen: NDArray[np.int64], *, draw: np.random.Generator) -> float:
    first, second = decisions.people.T
    count = int(decisions.people.max()) + 1
    times = np.bincount(draw.integers(0, count, count), minlength=count).astype(np.float64)
    weights = np.where(first == second, times[first], times[first] * times[second])
    total = weights.sum()
    if not total:  # no pair of the few people that were drawn
        return float(decisions.right[chosen].mean())
    return float((decisions.right[chosen] @ weights).mean() / total)


def people_of_pairs(
    first: NDArray[np.int64], second: NDArray[np.int64], same: NDArray[np.bool_], *, names: Sequence[str | None]
) -> NDArray[np.int64]:
    """The identities (P, 2) of pairs of rows, from a name for each row's person, if the pairs agree with these.

    Where names are missing or disagree, images are of one person if a chain of mated pairs joins them. This takes two
    images of a person that no pair joins for two people, so that intervals are somewhat too narrow.
    """
    if all(name is not None for name in names):
        person = np.unique(np.array(names, dtype=str), return_inverse=True)[1].reshape(-1)
        if np.array_equal(person[first] == person[second], same):
            return np.stack([person[first], person[second]], axis=1)
    person = np.arange(len(names))
    while True:  # the smallest row number spreads along mated pairs
        before = person.copy()
        lowest = np.minimum(person[first[same]], person[second[same]])
        np.minimum.at(person, first[same], lowest)
        np.minimum.at(person, second[same], lowest)
        if np.array_equal(person, before):
            break
    person = np.unique(person, return_inverse=True)[1].reshape(-1)
    return np.stack([person[first], person[second]], axis=1)
