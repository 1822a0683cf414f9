"""Rows of embeddings where they lie: several HDF5 files as one array that is never in memory as a whole."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from shards.errors import DataError


class Rows:
    """(N, D) float32 rows of several mapped arrays, read and checked when they are asked for.

    A row costs memory while it is used; what the system keeps of the files is its cache, and given back on demand.
    """

    def __init__(self, parts: Sequence[np.ndarray], *, where: str) -> None:
        self._parts, self._where = parts, where
        self._firsts = np.cumsum([0, *(len(part) for part in parts)])

    def __len__(self) -> int:
        return int(self._firsts[-1])

    @property
    def shape(self) -> tuple[int, int]:
        """(N, D)."""
        return len(self), int(self._parts[0].shape[1])

    def __getitem__(self, rows: slice | np.ndarray) -> np.ndarray:
        """A slice of rows, or those of an int array, in its order; a copy.

        Raises:
            DataError: a row is NaN, infinite or of zero norm.
        """
        index = np.arange(len(self))[rows]
        found = np.empty((len(index), self.shape[1]), np.float32)
        owner = np.searchsorted(self._firsts, index, side="right") - 1
        for part in np.unique(owner):
            own = owner == part
            found[own] = self._parts[part][index[own] - self._firsts[part]]
        check_rows(found, index=index, where=self._where)
        return found


def check_rows(features: np.ndarray, *, index: np.ndarray | None = None, where: str) -> None:
    """Refuse rows without direction; `index` are their numbers if they are not 0, 1, 2 ...

    Raises:
        DataError: a row is NaN, infinite or of zero norm, with its number.
    """
    with np.errstate(over="ignore", invalid="ignore"):
        norms = np.linalg.norm(features.astype(np.float32), axis=1)
    bad = ~(np.isfinite(norms) & (norms > 0))
    if bad.any():
        at = int(bad.argmax())
        row = at if index is None else int(index[at])
        raise DataError(f"{where}: row {row} has norm {norms[at]}, expected finite and above zero")
