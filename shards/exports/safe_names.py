"""Names from records as names of folders and files: readable, one for each, and never a path."""

from __future__ import annotations

import json
import unicodedata
from collections.abc import Sequence

# No file can have these names on Windows, whatever its ending.
DEVICES = {"con", "prn", "aux", "nul", *(f"{port}{number}" for port in ("com", "lpt") for number in range(1, 10))}

MAX_BYTES = 200  # of a folder's name; file systems take 255

READABLE = 60  # characters that are kept of a name that cannot stay as it is

PLAIN = "._- "  # beside letters and digits


def folder_names(names: Sequence[str], *, taken: Sequence[str] = ()) -> list[str]:
    """A folder's name for each of the names, which are sorted and differ; in the same order when sorted.

    Names stay as they are if all of them can: letters, digits, inner dots and spaces, dashes and underscores, at most
    200 bytes, different in more than their case, none of `taken`. Otherwise each gets its number in front, so that
    they differ and keep their order, and loses what cannot stay: `../../ann` becomes `0_.._ann`.
    """
    own = {name.casefold() for name in taken}
    folded = {name.casefold() for name in names}
    if len(folded) == len(names) and not folded & own and all(map(_is_safe, names)):
        return list(names)
    digits = len(str(max(0, len(names) - 1)))
    return [f"{number:0{digits}d}_{_readable(name)}" for number, name in enumerate(names)]


def file_names(keys: Sequence[str]) -> list[str]:
    """A name of a file, without its ending, for each key of a tar; keys are of a-z, 0-9, `_`, `-` and `/`.

    `/` becomes `-`, or, if a key with `-` there is among them, `.`, which no key has.
    """
    whole, found = {key for key in keys if "/" not in key}, []
    used: set[str] = set()
    for key in keys:
        name = key.replace("/", "-")
        if key != name and (name in whole or name in used):
            name = key.replace("/", ".")
        used.add(name)
        found.append(f"={name}" if name.partition(".")[0] in DEVICES else name)
    return found


def line_of(name: str) -> str:
    """A name as one line of a list: what cannot be printed, and backslashes, as JSON escapes."""
    return name if name.isprintable() and "\\" not in name else json.dumps(name)[1:-1]


def _is_safe(name: str) -> bool:
    plain = all(letter.isalnum() or letter in PLAIN for letter in name)
    edges = name == name.strip(". ") and not name.startswith("-")
    device = name.casefold().partition(".")[0] in DEVICES
    whole = 0 < len(name.encode(errors="replace")) <= MAX_BYTES and name == unicodedata.normalize("NFC", name)
    return plain and edges and whole and not device


def _readable(name: str) -> str:
    """What can be read of a name: ASCII letters and digits, dots, dashes and underscores."""
    plain = unicodedata.normalize("NFKD", name[: 2 * READABLE])
    kept = "".join(one if one.isascii() and (one.isalnum() or one in "._-") else "_" for one in plain)
    return kept[:READABLE].rstrip(".") or "unnamed"
