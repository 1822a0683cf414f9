"""Rows of several memory-mapped HDF5 files as one array, which is never in memory as a whole."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from shards.errors import DataError


class MappedRows:
    """(N, D) float32 rows of several mapped arrays, read and checked on access.

    Only the rows in use cost memory; the page cache holds the rest, and the system frees it on demand.
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
        """A copy of a slice of rows, or of the rows of an int array, in its order.

        Raises:
            DataError: a row is NaN, infinite or of zero norm.
        """
        index = np.arange(len(self))[rows]
        found = np.empty((len(index), self.shape[1]), np.float32)
        part_of = np.searchsorted(self._firsts, index, side="right") - 1
        for part in np.unique(part_of):
            own = part_of == part
            found[own] = self._parts[part][index[own] - self._firsts[part]]
        check_rows(found, index=index, where=self._where)
        return found


def check_rows(features: np.ndarray, *, index: np.ndarray | None = None, where: str) -> None:
    """Check that every row of (N, D) features has a direction; `index` are their row numbers if not 0, 1, 2 ...

    Raises:
        DataError: a row is NaN, infinite or of zero norm; the message has its number.
    """
    with np.errstate(over="ignore", invalid="ignore"):
        norms = np.linalg.norm(features.astype(np.float32), axis=1)
    bad = ~(np.isfinite(norms) & (norms > 0))
    if bad.any():
        at = int(bad.argmax())
        row = at if index is None else int(index[at])
        raise DataError(f"{where}: row {row} has norm {norms[at]}, expected finite and above zero")
