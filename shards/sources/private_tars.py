"""Whether a source of faces is private tars of this suite, which hold real people whatever the user says of them."""

from __future__ import annotations

import os
from pathlib import Path

from shards import strict_json
from shards.errors import DataError
from shards.sources import foreign_tar
from shards.sources.open_files import OpenFiles
from shards.tars import ustar
from shards.tars.records import is_real

MAX_RECORD = 2**20  # bytes


def why_real(path: Path) -> str | None:
    """What shows that a tar, or a tar in a folder, holds real faces; None if nothing does, or it is of another kind.

    Headers are looked at as well as records, since tools that pack a tar again keep one or the other.

    Raises:
        DataError: a tar is damaged.
    """
    tars = sorted(path.glob("*.tar")) if path.is_dir() else [path] if path.suffix == ".tar" else []
    files = OpenFiles()
    try:
        for tar in tars:
            found = _why_real(tar, files.descriptor(tar))
            if found is not None:
                return found
    finally:
        files.close()
    return None


def _why_real(path: Path, descriptor: int) -> str | None:
    for member in foreign_tar.members(path, descriptor):
        if ustar.is_marked(os.pread(descriptor, ustar.BLOCK, int(member.location))):
            return f"the headers of {path.name} have the mark of private tars"
        if member.name.endswith(b".json") and member.refused is None and member.bytes <= MAX_RECORD:
            data = foreign_tar.read_member(descriptor, location=member.location, size=member.bytes)
            try:
                record = strict_json.loads(data or b"", where="record")
            except DataError:
                continue
            if is_real(record):
                return f"a record in {path.name} is that of a real face"
    return None
