"""Identity centers, and the cosine of every image to its own center, the paper's measure of how hard it is."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import numpy as np

from shards.errors import DataError

ROWS = 65_536  # normalized at once


def normalized(features: np.ndarray) -> np.ndarray:
    """Rows of unit length, float32; zero rows give NaN."""
    unit: np.ndarray = features / np.linalg.norm(features, axis=1, keepdims=True)
    return unit.astype(np.float32)


def identity_centers(features: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """(C, D) float32 centers of unit length: the mean direction of each identity's unit embeddings.

    CemiFace takes the classifier's weight rows of a network trained on the set (section 3.1); the mean direction
    needs no such network.

    Raises:
        DataError: the embeddings of an identity cancel out, so that it has no direction.
    """
    return directions(unit_sums([features], [labels]))


def similarity_to_center(features: np.ndarray, labels: np.ndarray, centers: np.ndarray) -> np.ndarray:
    """(N,) float32 cosine of each row to the center of its label; `centers` have unit length."""
    cosines = np.empty(len(features), np.float32)
    for rows in blocks(len(features)):
        cosines[rows] = np.einsum("nd,nd->n", normalized(features[rows]), centers[labels[rows]])
    return cosines.clip(-1, 1)


def unit_sums(parts: Iterable[np.ndarray], labels: Sequence[np.ndarray]) -> np.ndarray:
    """(C, D) float64 sums of unit embeddings by label; features and labels come in matching parts."""
    count = max(int(part.max()) for part in labels) + 1
    sums: np.ndarray | None = None
    for features, own in zip(parts, labels, strict=True):
        if sums is None:
            sums = np.zeros((count, features.shape[1]))
        for rows in blocks(len(features)):
            np.add.at(sums, own[rows], normalized(features[rows]))
    assert sums is not None
    return sums


def directions(sums: np.ndarray) -> np.ndarray:
    """Rows of `unit_sums` as unit vectors, float32."""
    lengths = np.linalg.norm(sums, axis=1, keepdims=True)
    if lengths.min() < 1e-6:
        raise DataError(f"identity {int(lengths.argmin())}: its embeddings cancel out, there is no center")
    unit: np.ndarray = sums / lengths
    return unit.astype(np.float32)


def blocks(count: int) -> Iterator[slice]:
    """Slices of at most ROWS rows, so that work per row needs no second copy of the whole array."""
    return (slice(first, first + ROWS) for first in range(0, count, ROWS))
