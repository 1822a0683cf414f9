"""What the search for copies learns from the references: how faces usually vary, and how high chance scores get."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from shards.errors import DataError
from shards.privacy.copies.hypotheses import FAMILIES, Hypothesis, all_hypotheses
from shards.privacy.copies.pictures import SIDE, TURNS, turned
from shards.privacy.copies.views import CELLS, grid_of
from shards.privacy.copies.whitening import covariance_of, ignored_shapes, standardized, whitening

SAMPLE = 10_000  # references that the covariance comes from

BANK = 1500  # references whose scores tell what is usual for a query

CLIP = 3.0  # standard deviations: glints and edges of a cover are worth no more

TAIL = 50  # the highest 1 / 50 of the bank's scores tell their spread

TAIL_MEAN = 2.665  # mean of the highest 1 / 50 of |x|, for x from the standard normal distribution

LEAST = 20  # references; fewer tell nothing about what is usual


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """A hypothesis with its whitening.

    Attributes:
        front: (V, V) float32, whitens the values read from a picture.
        back: (V, 400) float32, whitens the cells of a reference, degraded as the hypothesis says.
    """

    hypothesis: Hypothesis
    front: np.ndarray
    back: np.ndarray


class CopyModel:
    """Whitenings for all hypotheses, and a bank of references.

    Attributes:
        comparisons: in the order of the families.
        owner: (K,) the comparison of each template; a template is a comparison with a turn.
        first_of_family: (F,) the first comparison of each family.
    """

    def __init__(self, pictures: np.ndarray) -> None:
        """Learn from (N, 1024) uint8 pictures of references; more than 10,000 are thinned out evenly.

        Raises:
            DataError: there are fewer than 20 pictures.
        """
        if len(pictures) < LEAST:
            raise DataError(f"audit.copies: got {len(pictures)} real images, thorough needs {LEAST}; use quick")
        cells = grid_of(_thinned(pictures, SAMPLE))
        self._mean = cells.mean(axis=0).astype(np.float64)
        found = standardized(cells, self._mean)
        covariance = covariance_of(found)
        self._whole = whitening(covariance, ignored_shapes(self._mean)[:, :0])
        self._back = np.linalg.inv(self._whole)
        self._spread = (found @ self._whole.T).std(axis=0)
        self.comparisons = [_comparison(one, covariance, self._mean) for one in all_hypotheses()]
        turns = [len(one.hypothesis.turns) for one in self.comparisons]
        self.owner = np.repeat(np.arange(len(turns)), turns)
        families = [one.hypothesis.family for one in self.comparisons]
        self.first_of_family = np.array([families.index(family) for family in FAMILIES])
        self.bank = self.prepared(_thinned(pictures, BANK))
        self.bank_scale = self.scales(self.bank)

    def prepared(self, pictures: np.ndarray) -> np.ndarray:
        """(N, 400) float32 of references (N, 1024): standardized cells, whose outliers are clipped when whitened."""
        white = standardized(grid_of(pictures), self._mean) @ self._whole.T / self._spread
        cells: np.ndarray = (white.clip(-CLIP, CLIP) * self._spread @ self._back.T).astype(np.float32)
        return cells

    def scales(self, references: np.ndarray) -> np.ndarray:
        """(P, N) float32: 1 / the length of each prepared reference (N, 400) in each comparison.

        Lengths below 0.3 of the median are raised to that: what is left of such references is flat.
        """
        lengths = np.stack([np.linalg.norm(references @ one.back.T, axis=1) for one in self.comparisons])
        floor = 0.3 * np.median(lengths, axis=1, keepdims=True)
        scales: np.ndarray = (1 / np.maximum(lengths, floor)).astype(np.float32)
        return scales

    def templates(self, pictures: np.ndarray) -> np.ndarray:
        """(N, K, 400) float32 of queries (N, 1024): a template's product with a prepared reference is its score.

        A score still has to be multiplied with the reference's scale; it is then a correlation of whitened values.
        """
        sides = pictures.reshape(-1, SIDE, SIDE).astype(np.float32)
        turns = [turned(sides, turn) for turn in range(TURNS)]
        out = np.empty((len(pictures), len(self.owner), CELLS), np.float32)
        first = 0
        for one in self.comparisons:
            count = len(one.hypothesis.turns)
            views = np.concatenate([turns[turn] for turn in one.hypothesis.turns])
            white = _clipped(one.hypothesis.sampling.cells(views) @ one.front.T)
            out[:, first : first + count] = (white @ one.back).reshape(count, len(pictures), CELLS).swapaxes(0, 1)
            first += count
        return out


def _thinned(rows: np.ndarray, most: int) -> np.ndarray:
    """At most `most` rows, evenly out of all."""
    return rows if len(rows) <= most else rows[np.arange(most) * len(rows) // most]


def _comparison(hypothesis: Hypothesis, covariance: np.ndarray, mean: np.ndarray) -> Comparison:
    degradation, shapes = hypothesis.degradation, ignored_shapes(mean)
    if degradation is None:
        visible = hypothesis.sampling.visible
        front = whitening(covariance[np.ix_(visible, visible)], shapes[visible], noise=hypothesis.noise)
        back = np.zeros((len(front), CELLS))
        back[:, visible] = front
    else:
        degraded = degradation @ covariance @ degradation.T
        front = whitening(degraded, degradation @ shapes, noise=hypothesis.noise)
        back = front @ degradation
    return Comparison(hypothesis=hypothesis, front=front.astype(np.float32), back=back.astype(np.float32))


def _clipped(white: np.ndarray) -> np.ndarray:
    """Whitened values (N, V), outliers clipped, of unit length; 0 for flat pictures."""
    spread = np.sqrt((white**2).mean(axis=1, keepdims=True))
    white = (white / (spread + 1e-3)).clip(-CLIP, CLIP)
    unit: np.ndarray = white / (np.linalg.norm(white, axis=1, keepdims=True) + 1e-6)
    return unit
