"""Formats of sources, and what becomes of the entries of a folder that are not in the format."""

from __future__ import annotations

import os
import stat
from collections.abc import Collection
from pathlib import Path
from typing import Literal

from shards.errors import DataError, shown
from shards.images.faces import Skip, escaped, is_ignored_name
from shards.images.outcomes import Outcome
from shards.sources.file_kinds import READABLE, is_archive, is_image

Format = Literal["auto", "folder", "archives", "webdataset", "recordio"]

WHERE: dict[Format, str] = {"folder": "folders of images", "recordio": "a RecordIO file", "archives": "other archives"}


class FormatError(DataError):
    """A source that can be read in several ways, or that holds archives which would not be read.

    Attributes:
        formats: those that could be stated; what is not in the format is then left out.
    """

    def __init__(self, message: str, *, formats: tuple[Format, ...]) -> None:
        super().__init__(message)
        self.formats = formats


def entry_beside(name: bytes, mode: int) -> Skip:
    """The outcome of an entry of a folder that is no part of the format that the folder is read in."""
    path = escaped(name)
    if is_ignored_name(name):
        return Skip(path=path, outcome=Outcome.IGNORED, detail="hidden or of the system")
    if stat.S_ISLNK(mode):
        return Skip(path=path, outcome=Outcome.SYMLINK)
    if stat.S_ISDIR(mode):
        return Skip(path=path, outcome=Outcome.IGNORED, detail="a folder; the files beside it are read")
    if is_archive(name):
        return Skip(path=path, outcome=Outcome.IGNORED, detail="an archive that is not read")
    if stat.S_ISREG(mode) and is_image(name):
        return Skip(path=path, outcome=Outcome.NO_IDENTITY, detail="in no identity's folder")
    return Skip(path=path, outcome=Outcome.IGNORED, detail="no part of the source")


def refuse_unread(root: Path, name: bytes, mode: int, *, formats: tuple[Format, ...]) -> None:
    """Refuse an archive that is not read: its images would be missed.

    Raises:
        FormatError: with the formats that could be stated: `formats`, the first of which is that of the folder.
    """
    if stat.S_ISDIR(mode) or is_ignored_name(name) or not is_archive(name):
        return
    if stat.S_ISLNK(mode):
        problem = "a link, and links are not followed; put the file itself there"
    elif name.lower().endswith(READABLE):
        problem = f"an archive beside {WHERE[formats[0]]}, and only these are read; move one of the two away"
    else:
        problem = "an archive that is not read; unpack it, repack it as .tar or .zip, or move it away"
    both = stat.S_ISREG(mode) and name.lower().endswith(READABLE)
    raise FormatError(f"{root}: {shown(escaped(name))} is {problem}", formats=formats if both else formats[:1])


def listed_beside(root: Path, *, read: Collection[Path], formats: tuple[Format, ...], strict: bool) -> list[Skip]:
    """The outcomes of all entries of a folder but the files that are read.

    Raises:
        FormatError: with `strict`, an archive is not read.
    """
    with os.scandir(os.fsencode(root)) as entries:
        found = sorted(entries, key=lambda entry: entry.name)
    names = {os.fsencode(path.name) for path in read}
    skipped = []
    for entry in found:
        if entry.name in names:
            continue
        mode = entry.stat(follow_symlinks=False).st_mode
        if strict:
            refuse_unread(root, entry.name, mode, formats=formats)
        skipped.append(entry_beside(entry.name, mode))
    return skipped
