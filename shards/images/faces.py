"""What a source of real faces gives: a sorted list of images with an identity each, and what was passed over.

Names are bytes on disk and may be anything: not UTF-8, with newlines or bidirectional controls. Everywhere else they
are `escaped`: printable text in which `%`, unprintable characters and undecodable bytes stand as %XX per byte.
`unescaped` is the exact inverse, so two different names never become one.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Protocol
from urllib.parse import unquote_to_bytes

from shards.errors import DataError
from shards.images.prepare import Outcome

MAX_FILE_BYTES = 256 * 2**20  # of one image file; reading more would be an accident

LITTER = {b"thumbs.db", b"desktop.ini", b"__macosx", b"__pycache__", b"@eadir"}


@dataclass(frozen=True, kw_only=True, slots=True)
class Face:
    """One image of a source.

    Attributes:
        identity: escaped name of the person.
        path: escaped; tells people where the image is, `<identity>/<name>` or `<archive>/<member>`.
        bytes: size when listed.
        place: where its source finds it again, in the source's own terms; empty if the path says it all.
        sha256: of the content when listed; empty where the plan does not read the files.
    """

    identity: str
    path: str
    bytes: int
    place: str = ""
    sha256: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class Skip:
    """Something that was listed but will not be read as a face."""

    path: str
    outcome: Outcome
    detail: str = ""


@dataclass(frozen=True, kw_only=True)
class Listing:
    """Faces in byte order of (identity, path), and what was passed over.

    `without_faces` are identities whose folder holds no image file at all.
    """

    faces: tuple[Face, ...]
    skipped: tuple[Skip, ...] = ()
    without_faces: tuple[str, ...] = ()

    @property
    def images_per_identity(self) -> Counter[str]:
        return Counter(face.identity for face in self.faces)

    @property
    def counts(self) -> dict[str, int]:
        """What was passed over, by outcome."""
        return dict(sorted(Counter(skip.outcome.value for skip in self.skipped).items()))


class Source(Protocol):
    """A place that holds faces. Listing opens no image; reading gives exactly what was listed, or an outcome."""

    def listing(self) -> Listing: ...
    def read(self, face: Face) -> bytes: ...


class FaceUnreadable(DataError):  # noqa: N818 -- the name is an outcome, not a failure of ours
    """A listed face cannot be read as it was listed; `outcome` is where it ends."""

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


def is_litter(name: bytes) -> bool:
    """Whether a file or folder name is hidden, or left behind by an operating system."""
    return name.startswith(b".") or name.lower() in LITTER


def in_order(faces: Iterable[Face]) -> tuple[Face, ...]:
    """Sorted by the bytes of identity and path: independent of locale, file system and how an archive was packed."""
    people: dict[str, list[Face]] = {}
    for face in faces:
        people.setdefault(face.identity, []).append(face)
    for own in people.values():
        own.sort(key=lambda face: unescaped(face.path))
    return tuple(face for identity in sorted(people, key=unescaped) for face in people[identity])


def check_size(face: Face) -> None:
    """Refuse to read what no photo of a face needs."""
    if face.bytes > MAX_FILE_BYTES:
        raise FaceUnreadable(Outcome.TOO_LARGE, f"{face.path}: {face.bytes} bytes, allowed are {MAX_FILE_BYTES}")


def nothing_found(where: object, skipped: Iterable[Skip], *, expected: str) -> DataError:
    """The error of a source without faces."""
    counts = Counter(skip.outcome.value for skip in skipped)
    seen = ", ".join(f"{count} {outcome}" for outcome, count in sorted(counts.items())) or "it is empty"
    return DataError(f"{where}: no faces found ({seen}); expected {expected}")


def _percent(character: str) -> str:
    return "".join(f"%{byte:02X}" for byte in character.encode("utf-8", "surrogateescape"))
