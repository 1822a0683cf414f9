"""Images by path, from a folder or from a tar that is not unpacked."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath

from shards.errors import DataError, shown
from shards.images.faces import MAX_FILE_BYTES
from shards.sources import foreign_tar
from shards.sources.benchmarks.image_roots import hint_in_folder, hint_in_tar
from shards.sources.open_files import OpenFiles
from shards.tars.ustar import BLOCK

FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW

FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK


class ImageSource:
    """Files below a folder, or the regular members of an uncompressed tar, by their relative path.

    Links are never followed, neither to a file nor to a folder on the way to it.

    Raises:
        DataError: the folder or tar is missing, or it is not a tar.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self._members: dict[str, tuple[int, int]] | None = None
        if root.is_dir():
            return
        try:
            self._members = _members(root)
        except FileNotFoundError:
            raise DataError(f"{root}: no such folder or tar") from None
        except (DataError, OSError) as error:
            raise DataError(f"{root}: not a folder and not an uncompressed tar ({error})") from None

    def size(self, path: str) -> int:
        """Bytes of the image; raises DataError if it is missing, not a regular file, or outside the folder."""
        if self._members is not None:
            if path not in self._members:
                hint = hint_in_tar(self._members, path)
                raise DataError(f"{self.root}: has no {shown(path, limit=200)}{hint}")
            return self._members[path][1]
        with self._parent(path) as (folder, name):
            return self._size(os.stat(name, dir_fd=folder, follow_symlinks=False), path)

    def read(self, path: str) -> bytes:
        """The bytes of the image; raises DataError as `size` does, and if it is too large or cut short."""
        size = self.size(path)
        if size > MAX_FILE_BYTES:
            raise DataError(f"{self.root}: {shown(path, limit=200)} has {size} bytes, allowed are {MAX_FILE_BYTES}")
        if self._members is None:
            data = self._read(path, size)
        else:
            try:
                with open(self.root, "rb") as file:
                    data = os.pread(file.fileno(), size, self._members[path][0])
            except OSError as error:
                raise DataError(f"{self.root}: {shown(path, limit=200)}: {error.strerror}") from None
        if len(data) != size:
            raise DataError(f"{self.root}: {shown(path, limit=200)} ends early")
        return data

    def _read(self, path: str, size: int) -> bytes:
        with self._parent(path) as (folder, name), open(os.open(name, FILE, dir_fd=folder), "rb") as file:
            self._size(os.fstat(file.fileno()), path)
            return file.read(size)

    def _size(self, found: os.stat_result, path: str) -> int:
        if not stat.S_ISREG(found.st_mode):
            raise DataError(f"{self.root}: {shown(path, limit=200)} is not a regular file")
        return found.st_size

    @contextmanager
    def _parent(self, path: str) -> Iterator[tuple[int, str]]:
        """The open folder of an image and the image's name in it; entered part by part, without following links."""
        parts = PurePosixPath(path).parts
        if not parts or path.startswith("/") or ".." in parts or "\0" in path:
            raise DataError(f"{self.root}: {shown(path, limit=200)!r} is outside of it")
        folder = -1
        try:
            folder = os.open(self.root, os.O_RDONLY | os.O_DIRECTORY)  # the root itself may be a link
            for part in parts[:-1]:
                if stat.S_ISLNK(os.stat(part, dir_fd=folder, follow_symlinks=False).st_mode):
                    where = f"{self.root}: {shown(path, limit=200)} is outside of it"
                    raise DataError(f"{where}: {shown(part)} is a link; copy the images there")
                inner = os.open(part, FOLDER, dir_fd=folder)
                os.close(folder)
                folder = inner
            yield folder, parts[-1]
        except OSError as error:
            hint = hint_in_folder(self.root, path)
            raise DataError(f"{self.root}: has no {shown(path, limit=200)} ({error.strerror}){hint}") from None
        except UnicodeEncodeError:
            raise DataError(f"{self.root}: has no {shown(path, limit=200)!r}, which is no name of a file") from None
        finally:
            if folder >= 0:
                os.close(folder)


def _members(tar: Path) -> dict[str, tuple[int, int]]:
    """Offset and size of every regular member; of several with one name, the last, as after extraction."""
    files = OpenFiles()  # closes them once it is gone
    return {
        str(PurePosixPath(os.fsdecode(member.name))): (int(member.location) + BLOCK, member.bytes)
        for member in foreign_tar.members(tar, files.descriptor(tar))
        if member.refused is None
    }
