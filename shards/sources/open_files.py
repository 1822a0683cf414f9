"""A cache of open file descriptors for reads at offsets."""

from __future__ import annotations

import os
import stat
import weakref
from pathlib import Path

from shards.errors import DataError

MAX_OPEN = 64  # far below the limit of a process


class OpenFiles:
    """Opens regular files on first use; when `MAX_OPEN` are open, the one opened first is closed."""

    def __init__(self) -> None:
        self._descriptors: dict[Path, int] = {}
        self.close = weakref.finalize(self, _close_all, self._descriptors)

    def descriptor(self, path: Path) -> int:
        """An open descriptor, valid until `MAX_OPEN` other files have been opened.

        Raises:
            OSError: it cannot be opened.
            DataError: it is not a regular file.
        """
        if path not in self._descriptors:
            if len(self._descriptors) >= MAX_OPEN:
                os.close(self._descriptors.pop(next(iter(self._descriptors))))
            descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                os.close(descriptor)
                raise DataError(f"{path}: not a regular file")
            self._descriptors[path] = descriptor
        return self._descriptors[path]


def _close_all(descriptors: dict[Path, int]) -> None:
    while descriptors:
        os.close(descriptors.popitem()[1])
