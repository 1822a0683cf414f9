"""Real faces in RecordIO: insightface's `train.rec` with `train.idx`, and DCFace's `file.rec` with `list.txt`."""

from __future__ import annotations

import os
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

from shards.errors import DataError
from shards.images.faces import (
    Face,
    Listing,
    Skip,
    UnreadableFaceError,
    check_size,
    escaped,
    no_faces_error,
    sorted_faces,
)
from shards.images.outcomes import Outcome
from shards.small_files import is_number, read_whole, without_mark
from shards.sources.formats import listed_beside
from shards.sources.open_files import OpenFiles
from shards.sources.recordio import Record, read_image, records

PATHS = "list.txt"  # beside the .rec: index, tab, `<identity>/<image>`

MAX_LIST = 2**29  # bytes of the index and of `list.txt`; ten million images

EXPECTED = "image records with labels"


class RecordSource:
    """One RecordIO file. The label is the identity; where all labels are 0, `list.txt` has the identities.

    With an index (`.idx` beside the `.rec`), records that it does not list are skipped: sets are cleaned that way.
    Without one, records are numbered from 0. Records without an image describe the set and its identities; they are not
    inputs.

    Args:
        root: the folder that was given, whose other entries get outcomes. Archives are refused unless `with_archives`.
    """

    def __init__(self, path: Path, *, root: Path | None = None, with_archives: bool = False) -> None:
        self.path, self._root, self._with_archives = path, root, with_archives
        self._name = escaped(os.fsencode(path.name))
        self._files = OpenFiles()

    def listing(self) -> Listing:
        """All image records.

        Raises:
            DataError: the file is damaged, its index does not fit, or all labels are 0 and there is no `list.txt`.
        """
        keys, people = self._keys(), self._people()
        faces: list[Face] = []
        skipped = self._beside()
        for number, record in enumerate(self._records()):
            key = number if keys is None else keys.pop(record.at, None)
            if record.labels and not record.image_bytes:
                continue
            path = f"{self._name}/{number if key is None else key:010d}"
            identity = _identity(record.label) if people is None or key is None else people.get(key)
            if key is None:
                skipped.append(Skip(path=path, outcome=Outcome.IGNORED, detail="not in the index"))
            elif identity is None:
                skipped.append(Skip(path=path, outcome=Outcome.NO_IDENTITY, detail=f"label {record.label}"))
            else:
                faces.append(Face(identity=identity, path=path, bytes=record.image_bytes, location=str(record.at)))
        if keys:
            at = next(iter(keys))
            raise DataError(f"{self.path}: its index names byte {at}, where no record starts; is it another file's?")
        if not faces:
            raise no_faces_error(self.path, skipped, expected=EXPECTED)
        return Listing(faces=sorted_faces(faces), skipped=tuple(skipped))

    def read(self, face: Face) -> bytes:
        """Read the image of one record.

        Raises:
            UnreadableFaceError: the file is missing or has changed.
        """
        check_size(face)
        try:
            data = read_image(self._files.descriptor(self.path), at=int(face.location), image_bytes=face.bytes)
        except OSError as error:
            raise UnreadableFaceError(Outcome.UNREADABLE, f"{face.path}: {error.strerror}") from None
        if data is None:
            raise UnreadableFaceError(Outcome.CHANGED, f"{face.path}: has moved or changed in the file")
        return data

    def _beside(self) -> list[Skip]:
        """The outcomes of what lies in the folder and is no part of the set."""
        if self._root is None:
            return []
        own = [self.path.with_suffix(suffix) for suffix in (".idx", ".lst")]
        own += [self.path, self.path.with_name(PATHS), self.path.with_name("property")]
        strict = not self._with_archives
        return listed_beside(self._root, read=own, formats=("recordio", "archives"), strict=strict)

    def _records(self) -> Iterator[Record]:
        try:
            return records(self.path, self._files.descriptor(self.path))
        except OSError as error:
            raise DataError(f"{self.path}: {error.strerror}") from None

    def _keys(self) -> dict[int, int] | None:
        """Keys by the byte their record starts at; None without an index."""
        path = self.path.with_suffix(".idx")
        lines = _lines(path)
        if lines is None:
            return None
        keys: dict[int, int] = {}
        for line in lines:
            key, _, at = line.strip().partition(b"\t")
            if not is_number(key) or not is_number(at):
                raise DataError(f"{path}: got {escaped(line[:80])!r}, expected lines of <key> tab <byte>")
            keys[int(at)] = int(key)
        if len(keys) != len(lines) or len(set(keys.values())) != len(lines):
            raise DataError(f"{path}: names a record or a key twice")
        return keys

    def _people(self) -> dict[int, str] | None:
        """Identities by key from `list.txt` if all labels are 0, else None."""
        images = [record.label for record in islice((r for r in self._records() if r.image_bytes), 2)]
        if len(images) < 2 or any(record.label for record in self._records() if record.image_bytes):
            return None
        path = self.path.with_name(PATHS)
        lines = _lines(path)
        if lines is None:
            raise DataError(f"{self.path}: all labels are 0; put the {PATHS} with the identities beside it")
        people: dict[int, str] = {}
        for line in lines:
            key, _, name = line.partition(b"\t")
            folder = name.rpartition(b"\t")[2].rpartition(b"/")[0].rpartition(b"/")[2]
            if not is_number(key) or not folder:
                raise DataError(f"{path}: got {escaped(line[:80])!r}, expected <key> tab <identity>/<image>")
            people[int(key)] = escaped(folder)
        return people


def _identity(label: float) -> str | None:
    """A whole number that float32 holds exactly, or None."""
    return str(int(label)) if 0 <= label < 2**24 and label == int(label) else None


def _lines(path: Path) -> list[bytes] | None:
    """The lines of a text file that are not empty; None if there is no such file."""
    try:
        return [line for line in without_mark(read_whole(path, limit=MAX_LIST)).splitlines() if line.strip()]
    except FileNotFoundError:
        return None
