"""The nearest reference by cosine, out of any number of references, in bounded memory."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence

import numpy as np

BLOCK = 4096  # queries and references compared at once: 64 MB of cosines


class Nearest:
    """For each query the reference of highest cosine, of all that were shown, a part at a time.

    Attributes:
        cosine: (N,) float32 to it; -inf before the first part.
        name: (N,) object, its name; of equals the one shown first.
    """

    def __init__(self, queries: np.ndarray, *, strangers_to: Sequence[str] = (), block: int = BLOCK) -> None:
        """Args: queries: (N, D) float32 of unit length; strangers_to: their identities, if only others' count."""
        self._queries, self._block = queries, block
        self._positions = {identity: position for position, identity in enumerate(sorted(set(strangers_to)))}
        self._own = self._positions_of(strangers_to)
        self.cosine = np.full(len(queries), -np.inf, np.float32)
        self.name = np.full(len(queries), "", object)

    def show(self, references: np.ndarray, names: Sequence[str], *, identities: Sequence[str] = ()) -> None:
        """Compare all queries with (M, D) references of unit length; `identities` of each, if only others' count."""
        labels, people = np.asarray(names, object), self._positions_of(identities)
        for own in slices(len(self._queries), self._block):
            for other in slices(len(references), self._block):
                scores = self._queries[own] @ references[other].T
                if self._positions:
                    scores[self._own[own, None] == people[None, other]] = -np.inf
                best = scores.argmax(axis=1)
                value = scores[np.arange(len(best)), best]
                better = value > self.cosine[own]
                self.cosine[own] = np.where(better, value, self.cosine[own])
                self.name[own] = np.where(better, labels[other][best], self.name[own])

    def _positions_of(self, identities: Sequence[str]) -> np.ndarray:
        """Where each stands among the queries' identities, or -1."""
        return np.fromiter((self._positions.get(identity, -1) for identity in identities), np.int64, len(identities))


def slices(count: int, block: int) -> Iterator[slice]:
    """0..count in slices of `block`."""
    return (slice(first, min(first + block, count)) for first in range(0, count, block))


def pairs_per_second(width: int, *, seconds: float = 0.3) -> float:
    """How many pairs of vectors of this width this process compares, tried for a moment."""
    vectors = np.random.default_rng(0).normal(size=(1024, width)).astype(np.float32)
    names = [""] * len(vectors)
    Nearest(vectors).show(vectors, names)  # the first product starts the threads
    pairs, start = 0, time.monotonic()
    while time.monotonic() - start < seconds:
        Nearest(vectors).show(vectors, names)
        pairs += len(vectors) ** 2
    return pairs / (time.monotonic() - start)
