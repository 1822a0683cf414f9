"""Lists of the images of a source to use, such as the official training list of a benchmark."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterator, Sequence
from dataclasses import replace

from shards.errors import DataError, shown
from shards.images.faces import Listing, Skip, escaped
from shards.images.outcomes import Outcome
from shards.small_files import with_slashes

SHOWN = 3

MAX_BYTES = 2**28  # of a list; millions of images

COLUMN = "path"

LABELED = re.compile(r"(.*\.[A-Za-z]{3,5})(?:[\t;, ] *)-?[0-9]{1,18}\s*")  # a path and a label


def read_selection(text: str, *, name: str) -> frozenset[str]:
    """The images of a list, each as `person/file`: the column `path` of a table, or a path per line.

    Folders and archives before these two parts are ignored, so a list fits every copy of a set. Blank lines are passed
    over, as is a label behind each path where all lines have one.

    Raises:
        DataError: a line (numbered in the message) is not the path of an image in a person's folder; an empty list.
    """
    chosen = set()
    numbered = list(_numbered_paths(text, name=name))
    paths = with_slashes([path for _, path in numbered])
    for number, path in zip((number for number, _ in numbered), paths, strict=True):
        if "/" not in path:
            raise DataError(f"{name}: line {number}: got {shown(path)!r}; expected a path that ends in person/file")
        chosen.add(_tail(escaped(path.encode(errors="surrogateescape"))))
    if not chosen:
        raise DataError(f"{name}: lists no image; expected a path per line, or a table with a column `{COLUMN}`")
    return frozenset(chosen)


def select(listing: Listing, chosen: frozenset[str], *, name: str) -> Listing:
    """Only the chosen faces of a listing; the others are skipped as not listed.

    Raises:
        DataError: images of the list are not in the source.
    """
    tails = [_tail(face.path) for face in listing.faces]
    missing = sorted(chosen.difference(tails))
    if missing:
        raise DataError(
            f"{name}: {len(missing)} of {len(chosen)} images are not in the source ({', '.join(missing[:SHOWN])}), "
            f"which has {tails[0] if tails else 'none'}; give the list that goes with these faces, or the whole set"
        )
    faces = list(zip(listing.faces, tails, strict=True))
    others = [Skip(path=face.path, outcome=Outcome.NOT_LISTED) for face, tail in faces if tail not in chosen]
    taken = tuple(face for face, tail in faces if tail in chosen)
    return replace(listing, faces=taken, skipped=(*listing.skipped, *others))


def _numbered_paths(text: str, *, name: str) -> Iterator[tuple[int, str]]:
    """The paths of a list, each with the number of the line that it ends in."""
    text = text.removeprefix("\ufeff")
    first = text.partition("\n")[0].rstrip("\r")
    separator = next((one for one in "\t;," if one in first), ",")
    if COLUMN not in [column.strip().lower() for column in first.split(separator)]:
        lines = [(number, line) for number, line in enumerate(text.splitlines(), start=1) if line.strip()]
        yield from _without_labels(lines)
        return
    rows = csv.DictReader(io.StringIO(text), delimiter=separator)
    try:
        rows.fieldnames = [column.strip().lower() for column in rows.fieldnames or []]
        for row in rows:
            if any(row.values()):
                yield rows.line_num, row[COLUMN] or ""
    except csv.Error as error:
        raise DataError(f"{name}: line {rows.line_num + 1}: {error}") from None


def _without_labels(lines: Sequence[tuple[int, str]]) -> Iterator[tuple[int, str]]:
    """The paths of lines; of lines that all are a file with a suffix and a whole number, the file."""
    found = [LABELED.fullmatch(line) for _, line in lines]
    labeled = all(found)
    for (number, line), match in zip(lines, found, strict=True):
        yield number, match[1] if labeled and match else line


def _tail(path: str) -> str:
    """The last two parts of a path: person and file."""
    return "/".join(path.split("/")[-2:])
