"""A new folder that appears whole or not at all, with a list of the hashes of its files."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from shards.errors import DataError
from shards.exports.formats import SUMS
from slurm.files import PartialFile, sync_folder
from slurm.partial_files import partial_path


class NewFolder:
    """A folder under a temporary name whose files are hashed while they are written."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._sums: list[str] = []
        root.mkdir()

    @staticmethod
    @contextmanager
    def at(target: Path) -> Iterator[NewFolder]:
        """The folder to fill. Leaving the block without an exception gives it its name; otherwise it is removed.

        Raises:
            DataError: the target exists.
        """
        if target.exists():
            raise DataError(f"{target}: exists; give a new folder with --to")
        target.parent.mkdir(parents=True, exist_ok=True)
        folder = NewFolder(partial_path(target))
        try:
            yield folder
            folder._finish()
            os.rename(folder._root, target)
            sync_folder(target.parent)
        finally:
            shutil.rmtree(folder._root, ignore_errors=True)

    @contextmanager
    def file(self, name: str) -> Iterator[PartialFile]:
        """Open a new file; its hash is recorded when it is closed."""
        path = self._root / name
        assert path.is_relative_to(self._root)
        assert ".." not in path.parts
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(path, "xb") as file:
            part = PartialFile(file, path=path)
            yield part
        self._sums.append(f"{part.output(name).sha256}  {name}\n")

    def _finish(self) -> None:
        """Write the hashes, and make everything durable at once: a sync per image would take hours."""
        (self._root / SUMS).write_text("".join(sorted(self._sums, key=lambda line: line[66:])))
        os.sync()
