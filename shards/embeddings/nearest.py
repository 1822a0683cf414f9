"""The nearest reference by cosine, out of any number of references, in bounded memory."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence

import numpy as np

BLOCK = 4096  # queries and references compared at once: 64 MB of cosines


class NearestSearch:
    """For each query, the reference with the highest cosine among all that were added, one part at a time.

    Attributes:
        cosine: (N,) float32, the highest cosine; -inf before the first part.
        name: (N,) object, name of the nearest reference; of equally near ones, the one added first.
    """

    def __init__(self, queries: np.ndarray, *, identities: Sequence[str] = (), block: int = BLOCK) -> None:
        """Start a search.

        Args:
            queries: (N, D) float32 of unit length.
            identities: of each query; if given, references of a query's own identity are left out.
            block: rows of queries and of references compared at once.
        """
        self._queries, self._block = queries, block
        self._labels = {identity: label for label, identity in enumerate(sorted(set(identities)))}
        self._own = self._labels_of(identities)
        self.cosine = np.full(len(queries), -np.inf, np.float32)
        self.name = np.full(len(queries), "", object)

    def add(self, references: np.ndarray, names: Sequence[str], *, identities: Sequence[str] = ()) -> None:
        """Compare all queries with (M, D) references of unit length.

        Args:
            identities: of each reference; needed if the queries have identities.
        """
        all_names, labels = np.asarray(names, object), self._labels_of(identities)
        for own in slices(len(self._queries), self._block):
            for other in slices(len(references), self._block):
                scores = self._queries[own] @ references[other].T
                if self._labels:
                    scores[self._own[own, None] == labels[None, other]] = -np.inf
                best = scores.argmax(axis=1)
                value = scores[np.arange(len(best)), best]
                better = value > self.cosine[own]
                self.cosine[own] = np.where(better, value, self.cosine[own])
                self.name[own] = np.where(better, all_names[other][best], self.name[own])

    def _labels_of(self, identities: Sequence[str]) -> np.ndarray:
        """(N,) int64 position of each among the queries' identities, or -1."""
        return np.fromiter((self._labels.get(identity, -1) for identity in identities), np.int64, len(identities))


def slices(count: int, block: int) -> Iterator[slice]:
    """0..count in slices of `block`."""
    return (slice(first, min(first + block, count)) for first in range(0, count, block))


def pairs_per_second(width: int, *, seconds: float = 0.3) -> float:
    """How many pairs of vectors of this width this process compares per second, measured for `seconds`."""
    vectors = np.random.default_rng(0).normal(size=(1024, width)).astype(np.float32)
    names = [""] * len(vectors)
    NearestSearch(vectors).add(vectors, names)  # the first product starts the threads
    pairs, start = 0, time.monotonic()
    while time.monotonic() - start < seconds:
        NearestSearch(vectors).add(vectors, names)
        pairs += len(vectors) ** 2
    return pairs / (time.monotonic() - start)
