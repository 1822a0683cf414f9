"""Scores of pictures against references: per family of alterations the best one, and the thresholds for them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

DIGITS = 4  # decimals of a score and of a threshold

HIGH = 0.95  # quantile of the control group above which a family's scale is measured

PRIOR = 20  # weight of the scale below the quantile, in number of scores

CERTAIN = 1e-5  # share of strangers above the score from which an image of the control group counts as a copy


@dataclass(frozen=True, kw_only=True)
class CopyScores:
    """The best score of N images in each family of alterations.

    Attributes:
        keys: of the images.
        references: number of real images compared with.
        scores: by family N scores: standard deviations above what is usual for the image.
        real: by family the keys of the N references with these scores.
    """

    keys: list[str]
    references: int
    scores: dict[str, list[float]]
    real: dict[str, list[str]]

    def as_json(self) -> dict[str, Any]:
        """JSON-ready values."""
        return asdict(self)

    @staticmethod
    def joined(parts: Sequence[CopyScores]) -> CopyScores:
        """The images of at least one part, one part after the other."""
        families = list(parts[0].scores)
        return CopyScores(
            keys=[key for part in parts for key in part.keys],
            references=parts[0].references,
            scores={family: [score for part in parts for score in part.scores[family]] for family in families},
            real={family: [key for part in parts for key in part.real[family]] for family in families},
        )

    def rows(self, rows: slice) -> CopyScores:
        """Some of the images."""
        return CopyScores(
            keys=self.keys[rows],
            references=self.references,
            scores={family: found[rows] for family, found in self.scores.items()},
            real={family: found[rows] for family, found in self.real.items()},
        )

    def reached(self, thresholds: Mapping[str, float]) -> Iterable[tuple[str, str, float]]:
        """Key, key of the reference, and score of each image in each family whose threshold it reaches."""
        for family, threshold in thresholds.items():
            scores = np.asarray(self.scores[family])
            for row in np.flatnonzero(scores >= threshold).tolist():
                yield self.keys[row], self.real[family][row], self.scores[family][row]


class CopyControl:
    """Turns the control group's scores into thresholds that images reach in any family at one joint rate.

    Families with few independent values have lower highest scores than others with the same median. So a family's
    scores are taken relative to the control group's 95 % quantile, in units of the mean by which the scores above it
    exceed it (the scale of an exponential tail); in small groups it is drawn towards the scale between the median
    and the quantile. The joint score of an image is the highest of these over the families.

    Images that score far above all others are left out: they are photographs that are among the references under
    another name, and would raise the thresholds for real copies.

    Attributes:
        copies: keys of the images that are left out.
    """

    def __init__(self, control: CopyScores) -> None:
        scores = np.array(list(control.scores.values()))  # (F, N)
        self._families = list(control.scores)
        certain = _certain_copies(scores)
        self.copies = frozenset(control.keys[row] for row in np.flatnonzero(certain).tolist())
        scores = scores[:, ~certain]
        self._high = np.quantile(scores, HIGH, axis=1)
        over = (scores - self._high[:, None]).clip(0)
        below = (self._high - np.median(scores, axis=1)) / np.log(0.5 / (1 - HIGH))
        total = over.sum(axis=1) + PRIOR * np.maximum(below, 0.05)
        self._width = total / ((over > 0).sum(axis=1) + PRIOR)
        self._joint = np.sort(((scores - self._high[:, None]) / self._width[:, None]).max(axis=0))

    def thresholds(self, allowed: int) -> dict[str, float]:
        """By family, the lowest thresholds that at most `allowed` images of the control group reach together."""
        highest_below = float(self._joint[max(0, len(self._joint) - 1 - allowed)])
        found = self._high + highest_below * self._width + 10**-DIGITS
        return {family: round(float(value), DIGITS) for family, value in zip(self._families, found, strict=True)}


def _certain_copies(scores: np.ndarray) -> np.ndarray:
    """(N,) which images score above what one of 100,000 strangers reaches, if the tails are exponential.

    The scale is that between the median and the 95 % quantile, which a few copies do not change.
    """
    middle, high = np.median(scores, axis=1), np.quantile(scores, HIGH, axis=1)
    joint = ((scores - middle[:, None]) / np.maximum(high - middle, 0.1)[:, None]).max(axis=0)
    scale = (np.quantile(joint, HIGH) - np.median(joint)) / np.log(0.5 / (1 - HIGH))
    certain: np.ndarray = joint > np.median(joint) + scale * np.log(0.5 / CERTAIN)
    return certain
