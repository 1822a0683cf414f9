"""Images by path, from a folder or from a tar that is not unpacked."""

from __future__ import annotations

import os
import stat
import tarfile
from pathlib import Path, PurePosixPath

from shards.errors import DataError
from shards.images.faces import MAX_FILE_BYTES


class ImageSource:
    """Files below a folder, or the regular members of an uncompressed tar, by their relative path.

    Raises:
        DataError: the folder or tar is missing, or it is not a tar.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self._members: dict[str, tuple[int, int]] | None = None
        if root.is_dir():
            return
        try:
            with tarfile.open(root, "r:") as tar:
                self._members = {
                    str(PurePosixPath(member.name)): (member.offset_data, member.size)
                    for member in tar
                    if member.isreg()
                }
        except FileNotFoundError:
            raise DataError(f"{root}: no such folder or tar") from None
        except (tarfile.TarError, OSError) as error:
            raise DataError(f"{root}: not a folder and not an uncompressed tar ({error})") from None

    def size(self, path: str) -> int:
        """Bytes of the image; raises DataError if it is missing, not a regular file, or outside the folder."""
        if self._members is not None:
            if path not in self._members:
                raise DataError(f"{self.root}: has no {path}")
            return self._members[path][1]
        if path.startswith("/") or ".." in PurePosixPath(path).parts:
            raise DataError(f"{self.root}: {path} is outside of it")
        try:
            found = os.lstat(self.root / path)
        except OSError as error:
            raise DataError(f"{self.root}: has no {path} ({error.strerror})") from None
        if not stat.S_ISREG(found.st_mode):
            raise DataError(f"{self.root}: {path} is not a regular file")
        return found.st_size

    def read(self, path: str) -> bytes:
        """The bytes of the image; raises DataError as `size` does, and if it is too large or cut short."""
        size = self.size(path)
        if size > MAX_FILE_BYTES:
            raise DataError(f"{self.root}: {path} has {size} bytes, allowed are {MAX_FILE_BYTES}")
        inside = self._members is not None
        try:
            with open(self.root if inside else self.root / path, "rb") as file:
                if self._members is not None:
                    file.seek(self._members[path][0])
                data = file.read(size)
        except OSError as error:
            raise DataError(f"{self.root}: {path}: {error.strerror}") from None
        if len(data) != size:
            raise DataError(f"{self.root}: {path} ends early")
        return data
