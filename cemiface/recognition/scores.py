"""Mated and non-mated similarity scores of a labeled set, and distances between two sets of scores."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from cemiface.errors import ModelError
from cemiface.recognition.verification import Floats, accept_rate, unit_rows

Indices = NDArray[np.int64]

BINS: Floats = np.linspace(-1, 1, 101)
BLOCK = 8192  # pairs compared at once: 32 MB at 512 wide


@dataclass(frozen=True, kw_only=True)
class Statistics:
    """The statistics that papers report for a set; rates are fractions."""

    mated_mean: float
    mated_std: float
    non_mated_mean: float
    non_mated_std: float
    eer: float
    fmr100: float  # lowest false non-match rate at a false match rate of at most 1 %
    fmr1000: float  # the same at 0.1 %
    fisher: float  # squared distance of the means over the sum of the variances


@dataclass(frozen=True, kw_only=True)
class Scores:
    """Cosines of image pairs of the same identity (mated) and of different identities (non-mated)."""

    mated: Floats
    non_mated: Floats

    def statistics(self) -> Statistics:
        """Error rates and moments."""
        thresholds = np.append(np.unique(np.concatenate([self.mated, self.non_mated])), np.inf)  # inf accepts none
        fmr = accept_rate(self.non_mated, thresholds=thresholds)
        fnmr = 1 - accept_rate(self.mated, thresholds=thresholds)
        crossing = np.argmin(np.abs(fmr - fnmr))
        variances = self.mated.var() + self.non_mated.var()
        distance = self.mated.mean() - self.non_mated.mean()
        return Statistics(
            mated_mean=float(self.mated.mean()),
            mated_std=float(self.mated.std()),
            non_mated_mean=float(self.non_mated.mean()),
            non_mated_std=float(self.non_mated.std()),
            eer=float((fmr[crossing] + fnmr[crossing]) / 2),
            fmr100=float(fnmr[fmr <= 1e-2].min()),
            fmr1000=float(fnmr[fmr <= 1e-3].min()),
            fisher=float(distance**2 / variances) if variances > 0 else float("inf"),
        )


def mated_non_mated(features: ArrayLike, labels: ArrayLike, *, seed: int, limit: int) -> Scores:
    """Cosines of the image pairs of a labeled set: features (N, E), labels (N,).

    At most `limit` scores of each kind: if there are more pairs, `limit` of them are drawn uniformly. The sample
    depends on the labels, the seed and the limit only. Memory is that of the features, the scores and one block.
    Raises ModelError unless there are both mated and non-mated pairs.
    """
    unit = unit_rows(np.asarray(features, np.float32))
    kinds = np.unique(np.asarray(labels), return_inverse=True)[1].reshape(-1)
    if len(unit) != len(kinds):
        raise ModelError(f"labels: got {len(kinds)} for {len(unit)} features; allowed: one each")
    if limit < 1:
        raise ModelError(f"limit: got {limit}; allowed: at least 1")
    mated = mated_pairs(kinds, seed=seed, limit=limit)
    non_mated = non_mated_pairs(kinds, seed=seed, limit=limit)
    return Scores(mated=_cosines(unit, *mated), non_mated=_cosines(unit, *non_mated))


def mated_pairs(labels: Indices, *, seed: int, limit: int) -> tuple[Indices, Indices]:
    """Indices of the pairs of equal labels (N,) in 0..L-1: all pairs, or a sample of `limit`."""
    order = np.argsort(labels, kind="stable")
    counts = np.bincount(labels)
    before = _exclusive_sum(counts * (counts - 1) // 2)  # pairs of the labels below each label
    if before[-1] == 0:
        raise ModelError(f"labels: got {len(labels)} images of {len(counts)} identities; no identity has two images")
    number = _chosen(before[-1], limit=limit, generator=np.random.default_rng([seed, 0]))
    label = np.searchsorted(before, number, side="right") - 1
    # Pair (a, b), a < b, of one identity has number b (b - 1) / 2 + a among the identity's.
    rest = number - before[label]
    b = ((1 + np.sqrt(8.0 * rest + 1)) // 2).astype(np.int64)
    a = rest - b * (b - 1) // 2
    first = _exclusive_sum(counts)[label]
    return order[first + a], order[first + b]


def non_mated_pairs(labels: Indices, *, seed: int, limit: int) -> tuple[Indices, Indices]:
    """Indices of the pairs of different labels (N,) in 0..L-1: all pairs, or a sample of `limit`."""
    order = np.argsort(labels, kind="stable")
    following = np.cumsum(np.bincount(labels))[labels[order]]  # for each image, where the next label begins
    before = _exclusive_sum(len(labels) - following)  # pairs of the earlier images with images of later labels
    if before[-1] == 0:
        raise ModelError(f"labels: got {len(labels)} images of one identity; non-mated pairs need two")
    number = _chosen(before[-1], limit=limit, generator=np.random.default_rng([seed, 1]))
    position = np.searchsorted(before, number, side="right") - 1
    return order[position], order[following[position] + number - before[position]]


def histogram(scores: ArrayLike, *, bins: Floats = BINS) -> Indices:
    """Counts of the scores per bin; scores outside the range count in the outermost bins."""
    return np.histogram(np.clip(np.asarray(scores, np.float64), bins[0], bins[-1]), bins=bins)[0]


def kl_of_histograms(counts: ArrayLike, reference: ArrayLike) -> float:
    """KL(counts || reference) in nats of two histograms; half a count in every bin keeps empty ones finite."""
    p, q = (np.asarray(sample, np.float64) + 0.5 for sample in (counts, reference))
    p, q = p / p.sum(), q / q.sum()
    return float((p * np.log(p / q)).sum())


def wasserstein(scores: ArrayLike, reference: ArrayLike) -> float:
    """Wasserstein-1 distance of two samples: the area between their distribution functions."""
    a, b = np.sort(np.asarray(scores, np.float64)), np.sort(np.asarray(reference, np.float64))
    points = np.sort(np.concatenate([a, b]))
    below = [np.searchsorted(sample, points[:-1], side="right") / len(sample) for sample in (a, b)]
    return float((np.abs(below[0] - below[1]) * np.diff(points)).sum())


def _chosen(total: int, *, limit: int, generator: np.random.Generator) -> Indices:
    """All numbers below total, or `limit` of them, drawn with replacement, in order (which reads memory in order)."""
    return np.arange(total) if total <= limit else np.sort(generator.integers(total, size=limit))


def _exclusive_sum(counts: Indices) -> Indices:
    """0, c0, c0 + c1, .. up to the sum of all."""
    return np.concatenate([[0], np.cumsum(counts)])


def _cosines(unit: Floats, a: Indices, b: Indices) -> Floats:
    """Cosines of the pairs of unit rows, a block at a time."""
    scores = np.empty(len(a), np.float64)
    for start in range(0, len(a), BLOCK):
        block = slice(start, start + BLOCK)
        scores[block] = np.einsum("ne,ne->n", unit[a[block]], unit[b[block]])
    return scores
