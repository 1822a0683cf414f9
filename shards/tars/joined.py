"""Several sets of faces as one, whose identities are apart even where they have the same names."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from shards.labels import classes_of
from shards.tars.shard_set import ShardSet


class JoinedSets:
    """The images of all sets, in their order.

    Attributes:
        keys: of each image, after the name of its set and a slash.
        labels: (N,) int64, contiguous 0..C-1.
        classes: names of the identities, each after the name of its set and a slash, sorted.
    """

    def __init__(self, parts: Mapping[str, ShardSet]) -> None:
        self._parts = tuple(parts.values())
        self._firsts = np.cumsum([0, *(len(part) for part in self._parts)])
        self.keys = [f"{name}/{key}" for name, part in parts.items() for key in part.keys]
        self.classes, self.labels = classes_of(
            [f"{name}/{identity}" for name, part in parts.items() for identity in part.identities]
        )

    def __len__(self) -> int:
        return len(self.keys)

    def rgb(self, index: int, *, out: np.ndarray | None = None) -> np.ndarray:
        """As `ShardSet.rgb`."""
        part, row = self._place(index)
        return part.rgb(row, out=out)

    def record(self, index: int) -> dict[str, Any]:
        """The JSON record, as it is in its set."""
        part, row = self._place(index)
        return part.record(row)

    def records(self) -> Iterator[dict[str, Any]]:
        """All records in order."""
        return (self.record(index) for index in range(len(self)))

    def _place(self, index: int) -> tuple[ShardSet, int]:
        if not 0 <= index < len(self):
            raise IndexError(f"image {index} of {len(self)}")
        part = int(np.searchsorted(self._firsts, index, side="right")) - 1
        return self._parts[part], index - int(self._firsts[part])
