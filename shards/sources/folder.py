"""Real faces in a folder tree `root/<identity>/<image>`."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable
from operator import attrgetter
from pathlib import Path

from shards.errors import DataError
from shards.images.faces import (
    Face,
    Listing,
    Skip,
    UnreadableFaceError,
    check_size,
    escaped,
    is_ignored_name,
    no_faces_error,
    unescaped,
)
from shards.images.outcomes import Outcome
from shards.sources.file_kinds import is_archive
from shards.sources.formats import Format, entry_beside, refuse_unread

EXPECTED = "ROOT/<identity>/<image>"

READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK


class FolderSource:
    """A folder of identity folders of images; symbolic links are counted, never followed.

    Files directly in the root have no identity; hidden files and system files are ignored. `prepare` decides whether
    a file is an image. Archives are refused unless `with_archives`, which ignores them.
    """

    def __init__(self, root: Path, *, with_archives: bool = False, only: str | None = None) -> None:
        """Args: only: the name of the one identity folder that is read; None means all."""
        self.root, self.with_archives, self.only = root, with_archives, only
        self._identity, self._folder = "", -1  # the identity folder read last, kept open

    def listing(self) -> Listing:
        """All regular files two levels below the root.

        Raises:
            DataError: the root is not a folder, has no faces, or has deeper folders or archives, whose images would be
                missed.
        """
        skipped: list[Skip] = []
        faces: list[Face] = []
        without_faces: list[str] = []
        for entry in _entries(os.fsencode(self.root)):
            if self.only is not None and os.fsdecode(entry.name) != self.only:
                continue
            label = escaped(entry.name)
            if _outcome(entry, wanted=stat.S_ISDIR) is not None:
                mode = entry.stat(follow_symlinks=False).st_mode
                self._refuse_archive(entry.name, mode, formats=("folder", "archives"))
                skipped.append(entry_beside(entry.name, mode))
                continue
            try:
                found = self._faces_of(entry, skipped)
            except PermissionError as error:
                skipped.append(Skip(path=label, outcome=Outcome.UNREADABLE, detail=error.strerror or ""))
                continue
            faces.extend(found)
            if not found:
                without_faces.append(label)
        if not faces:
            raise no_faces_error(self.root, skipped, expected=EXPECTED)
        return Listing(faces=tuple(faces), skipped=tuple(skipped), without_faces=tuple(without_faces))

    def read(self, face: Face) -> bytes:
        """Read the file that was listed, and only that one.

        The identity folder and the file are opened without following links and without blocking on a fifo.

        Raises:
            UnreadableFaceError: it is missing, has another size or type, or is not readable.
        """
        check_size(face)
        identity, _, name = face.path.partition("/")
        try:
            if identity != self._identity or self._folder < 0:
                self._enter(identity)
            descriptor = os.open(unescaped(name), READ, dir_fd=self._folder)
            try:
                return _content(descriptor, face)
            finally:
                os.close(descriptor)
        except OSError as error:
            raise UnreadableFaceError(_outcome_of(error), f"{face.path}: {error.strerror}") from None

    def _enter(self, identity: str) -> None:
        self.close()
        path = os.path.join(os.fsencode(self.root), unescaped(identity))
        self._folder = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
        self._identity = identity

    def close(self) -> None:
        """Close the folder read last."""
        if self._folder >= 0:
            os.close(self._folder)
        self._folder = -1

    def _faces_of(self, identity: os.DirEntry[bytes], skipped: list[Skip]) -> list[Face]:
        label, faces = escaped(identity.name), []
        for entry in _entries(identity.path):
            path = f"{label}/{escaped(entry.name)}"
            outcome = _outcome(entry, wanted=stat.S_ISREG)
            if outcome == Outcome.NOT_REGULAR and entry.is_dir(follow_symlinks=False):
                raise DataError(
                    f"{self.root}: {path} is a folder inside an identity; expected {EXPECTED}, flatten it first"
                )
            if outcome is None and is_archive(entry.name):
                self._refuse_archive(identity.name + b"/" + entry.name, stat.S_IFREG, formats=("folder",))
                skipped.append(Skip(path=path, outcome=Outcome.IGNORED, detail="an archive that is not read"))
                continue
            if outcome is not None:
                reason = "hidden or of the system" if outcome == Outcome.IGNORED else ""
                skipped.append(Skip(path=path, outcome=outcome, detail=reason))
                continue
            faces.append(Face(identity=label, path=path, bytes=entry.stat(follow_symlinks=False).st_size))
        return faces

    def _refuse_archive(self, name: bytes, mode: int, *, formats: tuple[Format, ...]) -> None:
        if not self.with_archives:
            refuse_unread(self.root, name, mode, formats=formats)


def _content(descriptor: int, face: Face) -> bytes:
    """The content of an open file; raises UnreadableFaceError if its size or type is not what was listed."""
    found = os.fstat(descriptor)
    if not stat.S_ISREG(found.st_mode):
        raise UnreadableFaceError(Outcome.NOT_REGULAR, face.path)
    data = os.read(descriptor, face.bytes) if found.st_size == face.bytes else b""
    while len(data) < face.bytes and (more := os.read(descriptor, face.bytes - len(data))):
        data += more
    if found.st_size != face.bytes or len(data) != face.bytes:
        raise UnreadableFaceError(Outcome.CHANGED, f"{face.path}: size is not the listed {face.bytes} bytes")
    return data


def _entries(folder: bytes) -> list[os.DirEntry[bytes]]:
    """Entries in byte order: independent of locale and file system."""
    try:
        with os.scandir(folder) as entries:
            return sorted(entries, key=attrgetter("name"))
    except (FileNotFoundError, NotADirectoryError):
        raise DataError(f"{os.fsdecode(folder)}: not a folder; expected {EXPECTED}") from None


def _outcome(entry: os.DirEntry[bytes], *, wanted: Callable[[int], bool]) -> Outcome | None:
    if is_ignored_name(entry.name):
        return Outcome.IGNORED
    mode = entry.stat(follow_symlinks=False).st_mode
    if stat.S_ISLNK(mode):
        return Outcome.SYMLINK
    return None if wanted(mode) else Outcome.NOT_REGULAR


def _outcome_of(error: OSError) -> Outcome:
    if error.errno == errno.ELOOP:
        return Outcome.SYMLINK
    if error.errno == errno.ENXIO:  # a socket
        return Outcome.NOT_REGULAR
    if error.errno in (errno.ENOENT, errno.ENOTDIR):
        return Outcome.CHANGED
    return Outcome.UNREADABLE
