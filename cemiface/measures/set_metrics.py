"""Measures of a labeled set of faces: how distinct its identities are, and how close and how varied their images.

Uniqueness, consistency and diversity are DCFace's (Kim et al. 2023, arXiv 2304.07060, section 4), the Frechet
distance that of Heusel et al. 2017 (arXiv 1706.08500), recall that of Kynkaanniemi et al. 2019 (arXiv 1904.06991).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cemiface.errors import ModelError
from cemiface.recognition.verification import Floats, unit_rows

RADIUS = 0.3  # cosine above which two faces count as one person: DCFace's

NEIGHBORS = 3  # of the manifold of recall

BLOCK = 1024

# Mean similarity to the center or inquiry per identity, counted as in the paper's table 7.
TABLE_BINS: Floats = np.array([-1.0, 0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 1.0])


@dataclass(frozen=True, kw_only=True)
class SetMetrics:
    """Fractions of 1, and a mean with its spread over the images."""

    uniqueness: float  # identities whose center has a cosine below RADIUS to every earlier counted center
    consistency: float  # images with a cosine of at least RADIUS to their center
    similarity_to_center: float
    similarity_to_center_std: float


def set_metrics(features: Floats, labels: NDArray[np.int64]) -> SetMetrics:
    """Of embeddings (N, E) and labels (N,) 0..C-1. Raises ModelError where an identity's embeddings cancel out."""
    unit = unit_rows(np.asarray(features, np.float32))
    centers = class_centers(unit, labels)
    similarity = np.einsum("ne,ne->n", unit, centers[labels])
    return SetMetrics(
        uniqueness=uniqueness(centers),
        consistency=float((similarity >= RADIUS).mean()),
        similarity_to_center=float(similarity.mean()),
        similarity_to_center_std=float(similarity.std()),
    )


def class_centers(unit: Floats, labels: NDArray[np.int64]) -> Floats:
    """Unit centers (C, E) of unit rows (N, E)."""
    sums = np.zeros((int(labels.max()) + 1, unit.shape[1]))
    np.add.at(sums, labels, unit)
    lengths = np.linalg.norm(sums, axis=1)
    if lengths.min() < 1e-6:
        raise ModelError(f"identity {lengths.argmin()}: its embeddings cancel out, there is no center")
    centers: Floats = sums / lengths[:, None]
    return centers.astype(np.float32)


def uniqueness(centers: Floats, *, radius: float = RADIUS) -> float:
    """The fraction of unit centers (C, E) that a greedy choice keeps.

    A center is kept if its cosine to all kept before is below `radius`.
    """
    kept = np.empty((0, centers.shape[1]), centers.dtype)
    for start in range(0, len(centers), BLOCK):
        block = centers[start : start + BLOCK]
        free = (block @ kept.T).max(axis=1, initial=-1) < radius
        among = block @ block.T
        for row in np.flatnonzero(free):  # each takes its later neighbors out
            if free[row]:
                free[row + 1 :] &= among[row, row + 1 :] < radius
        kept = np.concatenate([kept, block[free]])
    return len(kept) / len(centers)


def diversity(features: Floats, labels: NDArray[np.int64], *, reference: Floats) -> float:
    """Mean over identities of the recall of real features (R, D) by the identity's (those with enough images).

    DCFace takes Inception features, of any real faces; raises ModelError where no identity has enough images.
    """
    own = [features[labels == label] for label in np.unique(labels)]
    recalls = [recall(part, reference=reference) for part in own if len(part) > NEIGHBORS]
    if not recalls:
        raise ModelError(
            f"diversity: no identity has more than {NEIGHBORS} images; allowed: at least one such identity"
        )
    return float(np.mean(recalls))


def recall(features: Floats, *, reference: Floats, neighbors: int = NEIGHBORS) -> float:
    """The fraction of reference rows within some row's distance to its `neighbors`-th nearest other row."""
    own = _squared_distances(features, features)
    radius = np.partition(own, neighbors, axis=1)[:, neighbors]  # entry 0 is the row itself
    found = [
        (_squared_distances(reference[start : start + BLOCK], features) <= radius).any(1)
        for start in range(0, len(reference), BLOCK)
    ]
    return float(np.concatenate(found).mean())


Moments = tuple[Floats, Floats]  # mean (D,) and covariance (D, D)


def moments(x: Floats) -> Moments:
    """Raises ModelError for fewer than two rows, whose covariance is not defined."""
    if len(x) < 2:
        raise ModelError(f"moments: got {len(x)} rows; allowed: at least 2")
    x = np.asarray(x, np.float64)
    return x.mean(0), np.atleast_2d(np.cov(x, rowvar=False))


def frechet_distance(one: Moments, other: Moments) -> float:
    """Between the normal distributions of these moments."""
    (mean, covariance), (other_mean, other_covariance) = one, other
    # tr (A B)^(1/2) = the sum of roots of the eigenvalues of A^(1/2) B A^(1/2), which is symmetric.
    values, vectors = np.linalg.eigh(covariance)
    root = (vectors * np.sqrt(values.clip(0))) @ vectors.T
    shared = np.sqrt(np.linalg.eigvalsh(root @ other_covariance @ root).clip(0)).sum()
    distance = np.square(mean - other_mean).sum() + np.trace(covariance) + np.trace(other_covariance) - 2 * shared
    return float(max(distance, 0.0))


def identities_by_similarity(similarity: Floats, labels: NDArray[np.int64]) -> NDArray[np.int64]:
    """Identities counted by the mean similarity of their images, in TABLE_BINS."""
    means = np.bincount(labels, weights=similarity) / np.bincount(labels)
    return np.histogram(means.clip(-1, 1), bins=TABLE_BINS)[0]


def _squared_distances(a: Floats, b: Floats) -> Floats:
    a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
    squares: Floats = np.square(a).sum(1)[:, None] + np.square(b).sum(1)[None] - 2 * a @ b.T
    return squares.clip(0)
