"""Real faces in archives: zip or tar files of identity folders, and WebDataset tars."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
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
from shards.sources.archive_tree import Member, tree_faces
from shards.sources.formats import Format, FormatError, listed_beside
from shards.sources.open_files import OpenFiles
from shards.sources.webdataset_samples import Samples, read_samples

EXPECTED = "<identity>/<image> in it, or WebDataset samples with .cls or .json"


class ArchiveSource:
    """One or several zip or tar files. Nothing is extracted: members are read at their offsets.

    The identity of an image is the name of the folder it lies in. In tars whose images come with a `.cls` or `.json`
    of the same key (WebDataset), the identity is read from that file. `auto` decides on all tars together.

    Args:
        root: the folder of the archives, whose other entries get outcomes.
    """

    def __init__(self, paths: Sequence[Path], *, root: Path | None = None, form: Format = "auto") -> None:
        self._paths = {escaped(os.fsencode(path.name)): path for path in paths}
        self._root, self._form = root, form
        self._files = OpenFiles()

    def listing(self) -> Listing:
        """The faces of all archives.

        Raises:
            DataError: an archive is damaged, holds no face, or has folders inside identity folders.
            FormatError: there is a second way to read them, or an archive that is not read.
        """
        faces: list[Face] = []
        skipped: list[Skip] = []
        if self._root is not None:
            read = list(self._paths.values())
            skipped += listed_beside(self._root, read=read, formats=("archives",), strict=self._form == "auto")
        samples = self._samples()
        for name, path in self._paths.items():
            if samples is not None and not _is_zip(path):
                found = samples.pop(name)  # frees it
                faces += found.faces
                skipped += found.skipped
                continue
            tree, not_read = tree_faces(name, self._members(path), without_labels=self._form == "archives")
            faces += tree
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
            if _is_zip(path):
                return foreign_zip.read_member(descriptor, face)
            data = foreign_tar.read_member(descriptor, location=face.location, size=face.bytes)
        except OSError as error:
            raise UnreadableFaceError(Outcome.UNREADABLE, f"{face.path}: {error.strerror}") from None
        if data is None:
            raise UnreadableFaceError(Outcome.CHANGED, f"{face.path}: has moved or changed in the archive")
        return data

    def _samples(self) -> dict[str, Samples] | None:
        """The tars as WebDataset samples; None if they are trees of identity folders."""
        tars = {name: path for name, path in self._paths.items() if not _is_zip(path)}
        if self._form == "archives":
            return None
        if self._form == "webdataset":
            if len(tars) < len(self._paths):
                raise DataError(f"{next(p for p in self._paths.values() if _is_zip(p))}: got a zip, expected tars")
            return {name: self._read_samples(name, path) for name, path in tars.items()}
        found: dict[str, Samples] = {}
        images, people = 0, set[tuple[str, str | None]]()
        for name, path in tars.items():
            samples = self._read_samples(name, path)
            images += samples.images
            people |= samples.people
            if samples.labeled:  # of trees nothing is kept: they have no labels
                found[name] = samples
        labeled = sum(samples.labeled for samples in found.values())
        if not self._are_samples(images, labeled=labeled, people=people):
            return None
        return {name: found.get(name) or self._read_samples(name, path) for name, path in tars.items()}

    def _are_samples(self, images: int, *, labeled: int, people: set[tuple[str, str | None]]) -> bool:
        """Whether images with labels are WebDataset samples: their folders must not tell other people apart.

        Raises:
            FormatError: they do.
        """
        folders = {folder for folder, _ in people if folder}
        if not labeled or len(folders) < 2:
            return labeled > 0
        pairs = {(folder, identity) for folder, identity in people if folder}
        if labeled == images and len(pairs) == len(folders) == len({identity for _, identity in pairs}):
            return True
        where = self._root or ", ".join(map(str, self._paths.values()))
        identities = len({identity for _, identity in people if identity is not None})
        raise FormatError(
            f"{where}: can be read in two ways: as {len(folders)} identity folders with {images} images, or as "
            f"WebDataset samples, where .cls and .json files give {labeled} of the images {identities} identities; "
            "repack it as one of them",
            formats=("archives", "webdataset"),
        )

    def _read_samples(self, name: str, path: Path) -> Samples:
        def content(member: Member) -> bytes | None:
            return foreign_tar.read_member(self._files.descriptor(path), location=member.location, size=member.bytes)

        return read_samples(name, self._members(path), read=content)

    def _members(self, path: Path) -> Iterator[Member]:
        try:
            yield from (
                foreign_zip.members(path) if _is_zip(path) else foreign_tar.members(path, self._files.descriptor(path))
            )
        except OSError as error:
            raise DataError(f"{path}: {error.strerror}") from None


def _is_zip(path: Path) -> bool:
    return path.suffix.lower() == ".zip"
