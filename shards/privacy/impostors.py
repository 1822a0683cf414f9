"""Thresholds for given false match rates, from the cosines of non-mated pairs."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from shards.embeddings.centers import normalized
from shards.embeddings.nearest import slices
from shards.errors import DataError

IMAGES = 20_000  # their 2e8 pairs are enough for a false match rate of 1e-6

EXPECTED_MATCHES = 10  # false matches behind a threshold: its rate is then known to about a third (1 / sqrt(10))

BINS = 2**20  # of cosines in [-1, 1]: 2e-6 wide, near the resolution of float32


class ImpostorScores:
    """The cosines of all non-mated pairs of a sample of real faces, as a histogram of 2e-6 wide bins.

    The rates are those of this sample.
    """

    def __init__(self, features: np.ndarray, labels: np.ndarray, *, images: int = IMAGES, block: int = 2048) -> None:
        """Args: features: (N, D), any length; labels: (N,) identity of each; images: rows taken, evenly spaced."""
        rows = np.arange(len(features)) if len(features) <= images else np.arange(images) * len(features) // images
        unit, own = normalized(features[rows]), labels[rows]
        counts = np.zeros(BINS, np.int64)
        for left in slices(len(unit), block):
            for right in slices(len(unit), block):
                if right.start >= left.start:
                    counts += _impostor_counts(unit, own, left=left, right=right)
        self.pairs = int(counts.sum())
        self._at_or_above = counts[::-1].cumsum()[::-1]

    def threshold(self, fmr: float) -> float:
        """The lowest cosine at which at most `fmr` of the pairs count as the same person (>= threshold).

        Raises:
            DataError: `fmr` is not within (0, 1), there are too few pairs to resolve it (with fewer than ten false
                matches a threshold would depend on single pairs), or more than `fmr` of the pairs are identical.
        """
        if not 0 < fmr < 1:
            raise DataError(f"fmr: got {fmr}, allowed are values between 0 and 1")
        allowed = fmr * self.pairs
        if allowed < EXPECTED_MATCHES:
            lowest = f"at least {EXPECTED_MATCHES / self.pairs:.1e}" if self.pairs else "nothing: one identity only"
            raise DataError(f"fmr: got {fmr}, {self.pairs} non-mated pairs resolve {lowest}; add faces or raise fmr")
        if self._at_or_above[-1] > allowed:
            raise DataError(
                f"fmr: got {fmr}, more non-mated pairs are identical; the same faces are in several identities"
            )
        return float(np.flatnonzero(self._at_or_above <= allowed)[0] * 2 / BINS - 1)

    def resolved(self, rates: Sequence[float]) -> dict[float, float]:
        """By rate, the threshold, for those rates that the pairs can resolve."""
        enough = [
            fmr for fmr in rates if fmr * self.pairs >= EXPECTED_MATCHES and self._at_or_above[-1] <= fmr * self.pairs
        ]
        return {fmr: self.threshold(fmr) for fmr in enough}


def _impostor_counts(unit: np.ndarray, labels: np.ndarray, *, left: slice, right: slice) -> np.ndarray:
    """Histogram of the cosines of non-mated pairs between two blocks; within one block each pair counts once."""
    scores = unit[left] @ unit[right].T
    counted = labels[left, None] != labels[None, right]
    if left == right:
        counted = np.triu(counted, 1)
    bins = ((scores[counted].astype(np.float64) + 1) * (BINS / 2)).astype(np.int64)
    return np.bincount(bins.clip(0, BINS - 1), minlength=BINS)
