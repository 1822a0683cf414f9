"""Lists that say which images of a source to take: the official training lists of a benchmark, for one."""

from __future__ import annotations

from dataclasses import replace

from shards.errors import DataError
from shards.faces import Listing, Skip, escaped, in_order
from shards.images import Outcome

SHOWN = 3
COLUMN = "path"


def read_selection(text: str, *, name: str) -> frozenset[str]:
    """The images of a list, each as `person/file`: the column `path` of a table, or a path per line.

    Whatever folders or archives stand before these two parts does not matter: a list goes with every copy of a set.

    Raises:
        DataError: with the line that names no image in a person's folder; a list of nothing.
    """
    lines = text.splitlines()
    separator = "\t" if lines and "\t" in lines[0] else ","
    header = lines[0].split(separator) if lines else []
    column = header.index(COLUMN) if COLUMN in header else None
    chosen = set()
    for number, line in enumerate(lines[column is not None :], start=1 + (column is not None)):
        fields = [line] if column is None else line.split(separator)
        path = fields[column or 0].strip() if len(fields) > (column or 0) else ""
        if "/" not in path:
            raise DataError(f"{name}: line {number}: got {line!r}; expected a path that ends in person/file")
        chosen.add(_tail(escaped(path.encode(errors="surrogateescape"))))
    if not chosen:
        raise DataError(f"{name}: lists no image; expected a path per line, or a table with a column `{COLUMN}`")
    return frozenset(chosen)


def select(listing: Listing, chosen: frozenset[str], *, name: str) -> Listing:
    """Only the chosen faces of a listing; the others are passed over as not listed.

    Raises:
        DataError: the source lacks images of the list.
    """
    taken = [face for face in listing.faces if _tail(face.path) in chosen]
    missing = sorted(chosen - {_tail(face.path) for face in taken})
    if missing:
        raise DataError(
            f"{name}: {len(missing)} of {len(chosen)} images are not in the source ({', '.join(missing[:SHOWN])}); "
            "give the list that goes with these faces, or the whole set"
        )
    kept = {face.path for face in taken}
    others = (Skip(path=face.path, outcome=Outcome.NOT_LISTED) for face in listing.faces if face.path not in kept)
    return replace(listing, faces=in_order(taken), skipped=(*listing.skipped, *others))


def _tail(path: str) -> str:
    """The last two parts of a path: person and file."""
    return "/".join(path.split("/")[-2:])
