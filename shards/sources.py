"""Real faces in a folder tree `root/<identity>/<image>`: list them, read them.

Names are bytes on disk and may be anything: not UTF-8, with newlines or bidirectional controls. Everywhere else they
are `escaped`: printable text in which `%`, unprintable characters and undecodable bytes stand as %XX per byte.
`unescaped` is the exact inverse, so two different names never become one.
"""

from __future__ import annotations

import errno
import os
import stat
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote_to_bytes

from shards.errors import DataError
from shards.images import Outcome

MAX_FILE_BYTES = 256 * 2**20  # of one image file; reading more would be an accident
LITTER = {b"thumbs.db", b"desktop.ini", b"__macosx", b"__pycache__", b"@eadir"}


@dataclass(frozen=True, kw_only=True, slots=True)
class Face:
    """One image file: escaped identity, escaped path relative to the root, size when listed."""

    identity: str
    path: str
    bytes: int


@dataclass(frozen=True, kw_only=True)
class Listing:
    """Faces in byte order of (identity, name), and what was passed over, counted by outcome.

    `without_faces` are identities whose folder holds no image file at all.
    """

    faces: tuple[Face, ...]
    skipped: dict[str, int]
    without_faces: tuple[str, ...]

    @property
    def images_per_identity(self) -> Counter[str]:
        return Counter(face.identity for face in self.faces)


class FaceUnreadable(DataError):  # noqa: N818 -- the name is an outcome, not a failure of ours
    """A listed face cannot be read as it was listed; `outcome` is where it ends."""

    def __init__(self, outcome: Outcome, detail: str) -> None:
        super().__init__(f"{outcome}: {detail}")
        self.outcome, self.detail = outcome, detail


def escaped(name: bytes) -> str:
    """A file name as one printable line of text."""
    text = name.decode("utf-8", "surrogateescape")
    return "".join(c if c.isprintable() and c != "%" else _percent(c) for c in text)


def unescaped(text: str) -> bytes:
    """The file name that `escaped` was given."""
    return unquote_to_bytes(text)


def list_faces(root: Path) -> Listing:
    """List regular files two levels below `root`; symbolic links are counted, never followed.

    Files directly in `root` belong to nobody and are ignored, as are hidden files and the litter of operating
    systems. Whether a file is an image is not decided here but by `prepare`.

    Raises:
        DataError: `root` is no folder, holds no face, or nests folders deeper: images below them would be lost
            without a word.
    """
    skipped: Counter[str] = Counter()
    faces: list[Face] = []
    without_faces: list[str] = []
    for entry in _entries(root):
        outcome = _skipped(entry, wanted=stat.S_ISDIR)
        if outcome is not None:
            skipped[Outcome.IGNORED if outcome == Outcome.NOT_REGULAR else outcome] += 1
            continue
        try:
            found = _faces_of(root, entry, skipped)
        except PermissionError:
            skipped[Outcome.UNREADABLE] += 1
            continue
        faces.extend(found)
        if not found:
            without_faces.append(escaped(entry.name))
    if not faces:
        raise DataError(f"{root}: no faces found ({_counts(skipped)}); expected ROOT/<identity>/<image>")
    return Listing(faces=tuple(faces), skipped=dict(sorted(skipped.items())), without_faces=tuple(without_faces))


def read_face(root: Path, face: Face) -> bytes:
    """Read the file that was listed, and only that one.

    The identity folder and the file are opened without following links and without blocking on a fifo.

    Raises:
        FaceUnreadable: it vanished, changed its size or kind, or may not be read.
    """
    identity, name = (unescaped(part) for part in face.path.split("/"))
    if face.bytes > MAX_FILE_BYTES:
        raise FaceUnreadable(Outcome.TOO_LARGE, f"{face.path}: {face.bytes} bytes, allowed are {MAX_FILE_BYTES}")
    try:
        folder = os.open(os.path.join(os.fsencode(root), identity), os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
        try:
            descriptor = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK, dir_fd=folder)
        finally:
            os.close(folder)
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            os.close(descriptor)
            raise FaceUnreadable(Outcome.NOT_REGULAR, face.path)
        with open(descriptor, "rb") as file:
            data = file.read(face.bytes + 1)
    except OSError as error:
        raise FaceUnreadable(_outcome_of(error), f"{face.path}: {error.strerror}") from None
    if len(data) != face.bytes:
        raise FaceUnreadable(Outcome.CHANGED, f"{face.path}: size is not the listed {face.bytes} bytes")
    return data


def _faces_of(root: Path, identity: os.DirEntry[bytes], skipped: Counter[str]) -> list[Face]:
    label, faces = escaped(identity.name), []
    for entry in _entries(Path(os.fsdecode(identity.path))):
        outcome = _skipped(entry, wanted=stat.S_ISREG)
        if outcome == Outcome.NOT_REGULAR and entry.is_dir(follow_symlinks=False):
            raise DataError(
                f"{root}: {label}/{escaped(entry.name)} is a folder inside an identity; "
                "expected ROOT/<identity>/<image>, flatten it first"
            )
        if outcome is not None:
            skipped[outcome] += 1
            continue
        size = entry.stat(follow_symlinks=False).st_size
        faces.append(Face(identity=label, path=f"{label}/{escaped(entry.name)}", bytes=size))
    return faces


def _entries(folder: Path) -> list[os.DirEntry[bytes]]:
    """Entries in byte order: independent of locale and file system."""
    try:
        with os.scandir(os.fsencode(folder)) as entries:
            return sorted(entries, key=lambda entry: entry.name)
    except (FileNotFoundError, NotADirectoryError):
        raise DataError(f"{folder}: not a folder; expected ROOT/<identity>/<image>") from None


def _skipped(entry: os.DirEntry[bytes], *, wanted: Callable[[int], bool]) -> Outcome | None:
    if entry.name.startswith(b".") or entry.name.lower() in LITTER:
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


def _percent(character: str) -> str:
    return "".join(f"%{byte:02X}" for byte in character.encode("utf-8", "surrogateescape"))


def _counts(skipped: Counter[str]) -> str:
    return ", ".join(f"{count} {outcome}" for outcome, count in sorted(skipped.items())) or "the folder is empty"
