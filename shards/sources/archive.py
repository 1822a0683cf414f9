"""Real faces in archives: zip or tar files of identity folders, and WebDataset tars."""

from __future__ import annotations

import os
from collections.abc import Sequence
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
from shards.sources import foreign_tar, foreign_zip
from shards.sources.archive_tree import tree_faces
from shards.sources.open_files import OpenFiles
from shards.sources.webdataset_samples import sample_faces

EXPECTED = "<identity>/<image> in it, or WebDataset samples with .cls or .json"


class ArchiveSource:
    """One or several zip or tar files. Nothing is extracted: members are read at their offsets.

    The identity of an image is the name of the folder it lies in. In tars whose images come with a `.cls` or `.json`
    of the same key (WebDataset), the identity is read from that file.
    """

    def __init__(self, paths: Sequence[Path]) -> None:
        self._paths = {escaped(os.fsencode(path.name)): path for path in paths}
        self._files = OpenFiles()

    def listing(self) -> Listing:
        """The faces of all archives.

        Raises:
            DataError: an archive is damaged, holds no face, or has folders inside identity folders.
        """
        faces: list[Face] = []
        skipped: list[Skip] = []
        for name, path in self._paths.items():
            try:
                found, not_read = self._list(name, path)
            except OSError as error:
                raise DataError(f"{path}: {error.strerror}") from None
            faces += found
            skipped += not_read
        if not faces:
            raise no_faces_error(", ".join(map(str, self._paths.values())), skipped, expected=EXPECTED)
        return Listing(faces=sorted_faces(faces), skipped=tuple(skipped))

    def read(self, face: Face) -> bytes:
        """Read one member.

        Raises:
            UnreadableFaceError: the archive is missing or has changed, or the member is damaged.
        """
        check_size(face)
        path = self._paths[face.path.partition("/")[0]]
        try:
            descriptor = self._files.descriptor(path)
            if path.suffix == ".zip":
                return foreign_zip.read_member(descriptor, face)
            data = foreign_tar.read_member(descriptor, location=face.location, size=face.bytes)
        except OSError as error:
            raise UnreadableFaceError(Outcome.UNREADABLE, f"{face.path}: {error.strerror}") from None
        if data is None:
            raise UnreadableFaceError(Outcome.CHANGED, f"{face.path}: has moved or changed in the archive")
        return data

    def _list(self, name: str, path: Path) -> tuple[list[Face], list[Skip]]:
        descriptor = self._files.descriptor(path)
        if path.suffix == ".zip":
            return tree_faces(name, foreign_zip.members(path))
        samples = sample_faces(
            name,
            foreign_tar.members(path, descriptor),
            read=lambda member: foreign_tar.read_member(descriptor, location=member.location, size=member.bytes),
        )
        return samples or tree_faces(name, foreign_tar.members(path, descriptor))
