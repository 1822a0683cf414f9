"""Selected images of a shard set, as a labeled sequence of images, and a selection of whole identities."""

from __future__ import annotations

from typing import Protocol

import numpy as np

from shards.errors import DataError
from shards.labels import classes_of


class LabeledImages(Protocol):
    """Images with keys and contiguous labels, as trainings read them."""

    keys: list[str]
    labels: np.ndarray
    classes: list[str]

    def __len__(self) -> int: ...
    def rgb(self, index: int, /, *, out: np.ndarray | None = None) -> np.ndarray: ...


class Subset:
    """The images of `shards` at `indices`, in that order.

    Attributes:
        keys: of each image.
        labels: (N,) int64, contiguous 0..C-1 over the identities that remain.
        classes: names of these identities, sorted.
    """

    def __init__(self, shards: LabeledImages, indices: np.ndarray) -> None:
        if len(indices) == 0:
            raise DataError("a subset needs at least one image, got none")
        self._shards, self.indices = shards, np.asarray(indices, np.int64)
        self.keys = [shards.keys[index] for index in self.indices]
        self.classes, self.labels = classes_of([shards.classes[shards.labels[index]] for index in self.indices])

    def __len__(self) -> int:
        return len(self.indices)

    def rgb(self, index: int, *, out: np.ndarray | None = None) -> np.ndarray:
        """As `ShardSet.rgb`."""
        return self._shards.rgb(int(self.indices[index]), out=out)


def whole_identities(labels: np.ndarray, *, images: int, seed: int) -> np.ndarray:
    """Rows of all images if they are at most `images`; else of whole identities drawn by the seed, two at least."""
    if len(labels) <= images:
        return np.arange(len(labels))
    drawn = np.random.default_rng(seed).permutation(int(labels.max()) + 1)
    count = max(2, int((np.cumsum(np.bincount(labels)[drawn]) <= images).sum()))
    return np.flatnonzero(np.isin(labels, drawn[:count]))
