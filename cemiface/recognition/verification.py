"""Face verification on pairs: the LFW protocol as in insightface, the ROC curve, TAR at FAR."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from cemiface.errors import ModelError

Floats = NDArray[np.floating]

# Squared L2 distances of unit vectors, 2 - 2 cosine; insightface's grid.
DISTANCE_GRID: Floats = np.arange(0, 4, 0.01)
ROWS = 64  # pairs converted to float64 at once, so that they fit the cache


@dataclass(frozen=True, kw_only=True)
class Accuracy:
    """Verification accuracy over folds, as fractions; a pair counts as mated if its cosine is above the threshold.

    `right` (N,) says of each pair whether it is decided rightly at the threshold of its fold.
    """

    mean: float
    std: float
    per_fold: tuple[float, ...]
    thresholds: tuple[float, ...]
    right: NDArray[np.bool_]


@dataclass(frozen=True, kw_only=True)
class Roc:
    """False and true accept rates when pairs at or above each threshold are accepted; thresholds are descending."""

    far: Floats
    tar: Floats
    thresholds: Floats


def pair_similarity(a: ArrayLike, b: ArrayLike) -> Floats:
    """Cosines (N,) of the rows of a and b (N, E), in float64; a zero row gives 0."""
    a, b = np.asarray(a), np.asarray(b)
    cosines = np.zeros(len(a))
    for start in range(0, len(a), ROWS):
        rows = slice(start, start + ROWS)
        x, y = a[rows].astype(np.float64), b[rows].astype(np.float64)
        lengths = np.sqrt(np.einsum("ne,ne->n", x, x) * np.einsum("ne,ne->n", y, y))
        np.divide(np.einsum("ne,ne->n", x, y), lengths, out=cosines[rows], where=lengths > 0)
    return cosines


def check_embeddings(features: Floats, *, names: Sequence[str]) -> None:
    """Raise ModelError for rows of embeddings (N, E) that have no direction: NaN, infinite or zero."""
    with np.errstate(over="ignore", invalid="ignore"):
        norms = np.linalg.norm(features.astype(np.float32), axis=1)
    bad = np.flatnonzero(~(np.isfinite(norms) & (norms > 0)))
    if len(bad):
        raise ModelError(
            f"embeddings: row {bad[0]} ({names[bad[0]]}) has norm {norms[bad[0]]}, and {len(bad) - 1} more like it; "
            "allowed: finite and above zero; check the weights"
        )


def unit_rows(x: Floats) -> Floats:
    """Rows scaled to length 1; zero rows stay."""
    length = np.linalg.norm(x, axis=1, keepdims=True)
    unit: Floats = np.divide(x, length, out=np.zeros_like(x), where=length > 0)
    return unit


def k_fold_accuracy(similarity: ArrayLike, same: ArrayLike, *, folds: int = 10) -> Accuracy:
    """Cross-validated accuracy of cosines (N,) for the labels `same` (N,) bool; folds are runs of consecutive pairs.

    The threshold of a fold is the grid distance (0, 0.01 .. 3.99) with the highest accuracy on the other folds, the
    smallest if several tie: insightface's rule. Raises ModelError for fewer pairs than folds, pairs of one kind only,
    and cosines that are not finite.
    """
    similarity, same = _checked(similarity, same)
    parts = _folds(len(same), folds)
    distance = 2 - 2 * similarity
    correct = np.stack([_correct_counts(distance[part], same[part]) for part in parts])  # (folds, thresholds)
    best = np.argmax(correct.sum(0) - correct, axis=1)
    sizes = np.array([len(part) for part in parts])
    per_fold = correct[np.arange(folds), best] / sizes
    return Accuracy(
        mean=float(per_fold.mean()),
        std=float(per_fold.std()),
        per_fold=tuple(per_fold.tolist()),
        thresholds=tuple((1 - DISTANCE_GRID[best] / 2).tolist()),
        right=(distance < np.repeat(DISTANCE_GRID[best], sizes)) == same,
    )


def exact_decisions(similarity: ArrayLike, same: ArrayLike, *, folds: int = 10) -> NDArray[np.bool_]:
    """Which pairs (N,) are decided rightly if every cosine of the other folds is a possible threshold.

    The grid is too coarse for nets whose cosines all lie close together: an untrained net has exactly 0.5 on it.
    Of thresholds that tie, the highest is taken. Raises as `k_fold_accuracy` does.
    """
    similarity, same = _checked(similarity, same)
    right = np.empty(len(same), bool)
    for part in _folds(len(same), folds):
        others = np.ones(len(same), bool)
        others[part] = False
        order = np.flatnonzero(others)[np.argsort(-similarity[others], kind="stable")]
        correct = (~same[others]).sum() + np.cumsum(np.where(same[order], 1, -1))  # if all down to each are accepted
        last = np.append(similarity[order][1:] != similarity[order][:-1], True)  # equal cosines are accepted together
        place = np.argmax(np.where(last, correct, -1))
        threshold = similarity[order][place] if correct[place] > (~same[others]).sum() else np.inf
        right[part] = (similarity[part] >= threshold) == same[part]
    return right


def equal_error_rate(similarity: ArrayLike, same: ArrayLike) -> float:
    """The mean of false match and false non-match rate at the threshold where they differ least, both exact."""
    curve = roc(similarity, same)
    crossing = np.argmin(np.abs(curve.far - (1 - curve.tar)))
    return float((curve.far[crossing] + 1 - curve.tar[crossing]) / 2)


def roc(similarity: ArrayLike, same: ArrayLike) -> Roc:
    """The exact ROC curve of the pairs: one point per distinct similarity."""
    similarity, same = _checked(similarity, same)
    thresholds = np.unique(similarity)[::-1]
    far = accept_rate(similarity[~same], thresholds=thresholds)
    tar = accept_rate(similarity[same], thresholds=thresholds)
    return Roc(far=far, tar=tar, thresholds=thresholds)


def tar_at_far(similarity: ArrayLike, same: ArrayLike, *, far: float) -> float:
    """The highest true accept rate at a false accept rate of at most `far`; 0 if no threshold reaches that."""
    curve = roc(similarity, same)
    return float(curve.tar[curve.far <= far].max(initial=0.0))


def accept_rate(scores: Floats, *, thresholds: Floats) -> Floats:
    """The fraction of scores at or above each threshold."""
    return 1 - np.searchsorted(np.sort(scores), thresholds, side="left") / len(scores)


def _folds(count: int, folds: int) -> list[NDArray[np.int64]]:
    """Rows of consecutive folds; the first ones take the remainder, as in scikit-learn."""
    if not 2 <= folds <= count:
        raise ModelError(f"folds: got {folds} for {count} pairs; allowed: 2 to the number of pairs")
    return np.array_split(np.arange(count), folds)


def _correct_counts(distance: Floats, same: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Number of correctly classified pairs at each threshold of the grid; distances below it count as mated."""
    accepted = np.searchsorted(np.sort(distance[same]), DISTANCE_GRID, side="left")
    false_accepted = np.searchsorted(np.sort(distance[~same]), DISTANCE_GRID, side="left")
    correct: NDArray[np.int64] = accepted + (~same).sum() - false_accepted
    return correct


def _checked(similarity: ArrayLike, same: ArrayLike) -> tuple[Floats, NDArray[np.bool_]]:
    scores, kinds = np.asarray(similarity, np.float64), np.asarray(same, bool)
    if scores.ndim != 1 or scores.shape != kinds.shape:
        raise ModelError(f"similarity: got shapes {scores.shape} and {kinds.shape}; allowed: one score per pair")
    if not np.isfinite(scores).all():
        raise ModelError(f"similarity: got {np.sum(~np.isfinite(scores))} values that are not finite; check the net")
    if not 0 < kinds.sum() < len(kinds):
        raise ModelError(f"same: got {kinds.sum()} mated of {len(kinds)} pairs; allowed: some of both kinds")
    return scores, kinds
