"""The faces of a source: a sorted list of images, each with its identity, and the files that were skipped.

File names are bytes and may be anything: not UTF-8, with newlines or bidirectional controls. Everywhere else they are
`escaped`: printable text in which `%`, unprintable characters and undecodable bytes are written as %XX per byte.
`unescaped` is the exact inverse, so different names stay different.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Protocol
from urllib.parse import unquote_to_bytes

from shards.errors import DataError
from shards.images.outcomes import Outcome

MAX_FILE_BYTES = 256 * 2**20  # of one image file; a larger file is not a face image

# Lower case: of Windows and macOS; of the file servers of Synology, QNAP and NetApp; of file systems and archivers.
SYSTEM_NAMES = {
    *(b"thumbs.db", b"ehthumbs.db", b"ehthumbs_vista.db", b"desktop.ini", b"$recycle.bin", b"icon\r"),
    *(b"system volume information", b"__macosx", b"__pycache__", b"lost+found", b"_tmp"),
    *(b"@eadir", b"@tmp", b"@sharebin", b"@recycle", b"#recycle", b"#snapshot"),
}


@dataclass(frozen=True, kw_only=True, slots=True)
class Face:
    """One image of a source.

    Attributes:
        identity: escaped name of the person.
        path: escaped, for messages and lists: `<identity>/<name>` or `<archive>/<member>`.
        bytes: size when listed.
        location: where the source finds the image, in a form of its own; empty if `path` is enough.
        sha256: of the content when listed; empty if the files are not read for the plan.
    """

    identity: str
    path: str
    bytes: int
    location: str = ""
    sha256: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class Skip:
    """A listed file that is not read as a face."""

    path: str
    outcome: Outcome
    detail: str = ""


@dataclass(frozen=True, kw_only=True)
class Listing:
    """What a source holds.

    Attributes:
        faces: in byte order of (identity, path).
        skipped: files that are not read as faces.
        without_faces: identities whose folder holds no image file.
    """

    faces: tuple[Face, ...]
    skipped: tuple[Skip, ...] = ()
    without_faces: tuple[str, ...] = ()

    @property
    def images_per_identity(self) -> Counter[str]:
        """Number of faces by identity."""
        return Counter(face.identity for face in self.faces)

    @property
    def counts(self) -> dict[str, int]:
        """Number of skipped files by outcome."""
        return dict(sorted(Counter(skip.outcome.value for skip in self.skipped).items()))


class Source(Protocol):
    """A folder or file with faces. Listing opens no image; reading returns exactly what was listed, or raises."""

    def listing(self) -> Listing:
        """All faces, and all files that were skipped."""
        ...

    def read(self, face: Face) -> bytes:
        """The bytes of one listed image; raises UnreadableFaceError if it is not what was listed."""
        ...


class UnreadableFaceError(DataError):
    """A listed face cannot be read as it was listed; `outcome` says why."""

    def __init__(self, outcome: Outcome, detail: str) -> None:
        super().__init__(f"{outcome}: {detail}")
        self.outcome, self.detail = outcome, detail


def escaped(name: bytes) -> str:
    """A file name as one printable line of text."""
    text = name.decode("utf-8", "surrogateescape")
    if text.isprintable() and "%" not in text:
        return text
    return "".join(c if c.isprintable() and c != "%" else _percent(c) for c in text)


def unescaped(text: str) -> bytes:
    """The file name that `escaped` was given."""
    return unquote_to_bytes(text) if "%" in text else text.encode()


def is_ignored_name(name: bytes) -> bool:
    """Whether a file or folder name is hidden, or one that operating systems leave behind."""
    return name.startswith(b".") or name.lower() in SYSTEM_NAMES


def sorted_faces(faces: Iterable[Face]) -> tuple[Face, ...]:
    """Sorted by the bytes of identity and path: independent of locale, file system and order in an archive."""
    by_identity: dict[str, list[Face]] = {}
    for face in faces:
        by_identity.setdefault(face.identity, []).append(face)
    for own in by_identity.values():
        own.sort(key=lambda face: unescaped(face.path))
    return tuple(face for identity in sorted(by_identity, key=unescaped) for face in by_identity[identity])


def check_size(face: Face) -> None:
    """Raise UnreadableFaceError for a file larger than `MAX_FILE_BYTES`."""
    if face.bytes > MAX_FILE_BYTES:
        raise UnreadableFaceError(Outcome.TOO_LARGE, f"{face.path}: {face.bytes} bytes, allowed are {MAX_FILE_BYTES}")


def no_faces_error(where: object, skipped: Iterable[Skip], *, expected: str) -> DataError:
    """The error for a source without faces."""
    counts = Counter(skip.outcome.value for skip in skipped)
    found = ", ".join(f"{count} {outcome}" for outcome, count in sorted(counts.items())) or "it is empty"
    return DataError(f"{where}: no faces found ({found}); expected {expected}")


def _percent(character: str) -> str:
    return "".join(f"%{byte:02X}" for byte in character.encode("utf-8", "surrogateescape"))
