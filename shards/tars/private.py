"""Whether a tar holds real faces: private tars have a mark in their headers and in their records."""

from __future__ import annotations

from shards.tars.reader import OpenTar
from shards.tars.records import is_real


def why_private(tar: OpenTar) -> str | None:
    """What shows that a tar holds real faces, None if nothing does; reads all of its headers and records.

    Raises:
        DataError: it is damaged.
    """
    for span in tar.scan():
        if is_real(tar.record(span)):
            return f"the record of {span.key} is that of a real face"
    return "its headers have the mark of private tars" if tar.marked_private else None
