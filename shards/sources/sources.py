"""Opens sources of real faces of every kind, and writes the lists of planned faces that ranks read back."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

from shards.errors import DataError
from shards.images.faces import Face, Skip, Source, UnreadableFaceError, is_ignored_name
from shards.images.outcomes import Outcome
from shards.images.prepare import decoded_hash
from shards.images.rules import ImageRules
from shards.sources.archive import ArchiveSource
from shards.sources.folder import FolderSource
from shards.sources.formats import Format
from shards.sources.recordio_source import RecordSource

ALLOWED = "a folder of identity folders, a .zip, .tar or .rec file, or a folder that holds such files and nothing else"

ARCHIVES = (".zip", ".tar")

EXPECTED: dict[Format, str] = {
    "folder": "a folder of identity folders",
    "archives": "a .zip or .tar file, or a folder of such",
    "webdataset": "a .tar file, or a folder of such",
    "recordio": "a .rec file, or a folder with one",
}

COLUMNS = ("identity", "path", "bytes", "place", "sha256")  # "place" is `Face.location`

HEADER = "\t".join(COLUMNS) + "\n"

HASHED_AT_ONCE = 1000  # files


def open_source(path: Path, *, form: Format = "auto") -> Source:
    """The source at `path`: a folder tree, RecordIO, or archives.

    With `auto`, a folder with one .rec file is RecordIO; one with .tar or .zip files and no folders is a set of
    archives. Whether tars are trees or WebDataset samples shows when they are listed. Any other `form` is taken as
    stated; what is not in it gets an outcome.

    Raises:
        DataError: it is missing, not readable or of another kind.
    """
    try:
        exists = path.exists()
    except OSError as error:  # a parent folder may not be entered
        raise DataError(f"{path}: {error.strerror}; make it readable to you") from None
    if path.is_dir():
        return _open_folder(path, form=form)
    suffix = path.suffix.lower() if path.is_file() else ""
    if suffix in ARCHIVES and form in ("auto", "archives", "webdataset"):
        return ArchiveSource([path], form=form)
    if suffix == ".rec" and form in ("auto", "recordio"):
        return RecordSource(path)
    found = "a file of another kind" if exists else "no such file or folder"
    raise DataError(f"{path}: {found}; expected {ALLOWED if form == 'auto' else EXPECTED[form]}")


def open_pictures(path: Path) -> Source:
    """As `open_source`; a folder of images without folders in it is read too, as if they were of one identity.

    Raises:
        DataError: it is missing, not readable or of another kind.
    """
    if path.is_dir():
        with os.scandir(path) as entries:
            found = [entry for entry in entries if not is_ignored_name(os.fsencode(entry.name))]
        plain = all(entry.is_file(follow_symlinks=False) for entry in found)
        if found and plain and not any(Path(entry.name).suffix.lower() in (*ARCHIVES, ".rec") for entry in found):
            real = path.resolve()
            return FolderSource(real.parent, only=real.name)
    return open_source(path)


@dataclass(frozen=True, kw_only=True, slots=True)
class HashedFace:
    """A face with the sha256 of its content.

    Attributes:
        equal: a digest that is the same for equal images; empty if the image is not usable.
    """

    face: Face
    equal: bytes


def with_hashes(
    path: Path, faces: Sequence[Face], *, rules: ImageRules | None = None, form: Format = "auto", threads: int = 8
) -> list[HashedFace]:
    """Read and hash faces of the source at `path`. Images are equal if their bytes or, with `rules`, their pixels are.

    An unreadable face gets no hash; it ends in an outcome when it is prepared.
    """

    def hashed(first: int) -> list[HashedFace]:
        source = open_source(path, form=form)  # a source may be read by one thread only
        return [_hashed(source, face, rules=rules) for face in faces[first : first + HASHED_AT_ONCE]]

    with ThreadPoolExecutor(threads) as pool:
        return [face for part in pool.map(hashed, range(0, len(faces), HASHED_AT_ONCE)) for face in part]


def first_of_equals(faces: Iterable[HashedFace]) -> tuple[list[Face], list[Skip]]:
    """The faces without duplicates of earlier ones, and the duplicates as skips."""
    first: dict[bytes, str] = {}
    kept: list[Face] = []
    skipped: list[Skip] = []
    for hashed in faces:
        path = hashed.face.path  # not unique: a tar may hold a name several times
        if hashed.equal and hashed.equal in first:
            skipped.append(Skip(path=path, outcome=Outcome.DUPLICATE, detail=f"equal to {first[hashed.equal]}"))
        else:
            first[hashed.equal] = path
            kept.append(hashed.face)
    return kept, skipped


def read_checked(source: Source, face: Face) -> bytes:
    """Read a face as it was planned.

    Raises:
        UnreadableFaceError: it cannot be read, or is not what was listed.
    """
    data = source.read(face)
    if face.sha256 and hashlib.sha256(data).hexdigest() != face.sha256:
        raise UnreadableFaceError(Outcome.CHANGED, f"{face.path}: its content is not what was listed")
    return data


def list_bytes(faces: Iterable[Face]) -> bytes:
    """A list of faces as tab-separated text; equal lists give equal bytes."""
    lines = (f"{face.identity}\t{face.path}\t{face.bytes}\t{face.location}\t{face.sha256}\n" for face in faces)
    return (HEADER + "".join(lines)).encode()


def read_list(path: Path, *, sha256: str) -> list[Face]:
    """The faces of a list.

    Raises:
        DataError: it is missing, or has another hash.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise DataError(f"{path}: {error.strerror}; rerun the same command to rebuild it") from None
    if hashlib.sha256(data).hexdigest() != sha256:
        raise DataError(f"{path}: is not the list that was planned; rerun the same command to rebuild it")
    fields = (line.split("\t") for line in data.decode().split("\n")[1:-1])
    return [
        Face(identity=identity, path=name, bytes=int(size), location=location, sha256=digest)
        for identity, name, size, location, digest in fields
    ]


def skips_bytes(skipped: Iterable[Skip]) -> bytes:
    """Skipped files, with outcome and detail, as tab-separated text."""
    return ("path\toutcome\tdetail\n" + "".join(f"{s.path}\t{s.outcome}\t{s.detail}\n" for s in skipped)).encode()


def _open_folder(path: Path, *, form: Format) -> Source:
    if form == "folder":
        return FolderSource(path, with_archives=True)
    try:
        with os.scandir(path) as entries:
            found = sorted(entries, key=lambda entry: os.fsencode(entry.name))
    except OSError as error:
        raise DataError(f"{path}: {error.strerror}") from None
    found = [entry for entry in found if not is_ignored_name(os.fsencode(entry.name))]
    folders = [entry for entry in found if entry.is_dir(follow_symlinks=False)]
    files = [Path(entry.path) for entry in found if entry.is_file(follow_symlinks=False)]
    recordio = [file for file in files if file.suffix.lower() == ".rec"]
    archives = [file for file in files if file.suffix.lower() in ARCHIVES]
    if form == "recordio" or (form == "auto" and recordio):
        if len(recordio) != 1:
            raise DataError(f"{path}: holds {len(recordio)} .rec files; give the one to read")
        return RecordSource(recordio[0], root=path, with_archives=form == "recordio")
    if form != "auto" and not archives:
        raise DataError(f"{path}: holds no {' or '.join(ARCHIVES)} file; expected {EXPECTED[form]}")
    return (
        ArchiveSource(archives, root=path, form=form)
        if archives and not (form == "auto" and folders)
        else FolderSource(path)
    )


def _hashed(source: Source, face: Face, *, rules: ImageRules | None) -> HashedFace:
    try:
        data = source.read(face)
    except UnreadableFaceError:
        return HashedFace(face=face, equal=b"")
    digest = hashlib.sha256(data)
    equal = decoded_hash(data, rules=rules) if rules else digest.digest()
    return HashedFace(face=replace(face, sha256=digest.hexdigest()), equal=equal)
