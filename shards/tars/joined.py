"""Several sets of faces as one, whose identities are apart even where they have the same names.

Images of larger sets are scaled to the size of the smallest, as a batch needs one size.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from PIL import Image

from shards.labels import classes_of
from shards.tars.shard_set import ShardSet


class JoinedSets:
    """The images of all sets, in their order. Each set has images of one size.

    Attributes:
        size: side of the images in pixels.
        keys: of each image, after the name of its set and a slash.
        labels: (N,) int64, contiguous 0..C-1.
        classes: names of the identities, each after the name of its set and a slash, sorted.
    """

    def __init__(self, parts: Mapping[str, ShardSet]) -> None:
        self._parts = tuple(parts.values())
        sizes = [len(part.rgb(0)) for part in self._parts]
        self.size = min(sizes)
        self._larger = [size > self.size for size in sizes]
        self._firsts = np.cumsum([0, *(len(part) for part in self._parts)])
        self.keys = [f"{name}/{key}" for name, part in parts.items() for key in part.keys]
        self.classes, self.labels = classes_of(
            [f"{name}/{identity}" for name, part in parts.items() for identity in part.identities]
        )

    def __len__(self) -> int:
        return len(self.keys)

    def rgb(self, index: int, *, out: np.ndarray | None = None) -> np.ndarray:
        """As `ShardSet.rgb`."""
        number, row = self._place(index)
        if not self._larger[number]:
            return self._parts[number].rgb(row, out=out)
        whole = Image.fromarray(self._parts[number].rgb(row))
        scaled = whole.resize((self.size, self.size), Image.Resampling.BICUBIC)
        if out is None:
            return np.asarray(scaled)
        out[...] = scaled
        return out

    def record(self, index: int) -> dict[str, Any]:
        """The JSON record, as it is in its set."""
        number, row = self._place(index)
        return self._parts[number].record(row)

    def records(self) -> Iterator[dict[str, Any]]:
        """All records in order."""
        return (self.record(index) for index in range(len(self)))

    def _place(self, index: int) -> tuple[int, int]:
        if not 0 <= index < len(self):
            raise IndexError(f"image {index} of {len(self)}")
        number = int(np.searchsorted(self._firsts, index, side="right")) - 1
        return number, index - int(self._firsts[number])
