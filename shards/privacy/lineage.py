"""Lineage: the data sets that nets were trained on, and whether an audit compared a synthetic set with each.

A weights file lists the data sets of its net and of the nets it was trained from in its metadata, as JSON under
`LINEAGE`. A file without such a list is of unknown origin.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

from shards.errors import DataError

LINEAGE = "lineage"  # key in the metadata of weights
UNKNOWN = "unknown origin"

MAX_TEXT = 400  # characters of a name or a license
BREAKS = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")  # control characters, and halves of pairs
SHA256 = re.compile("[0-9a-f]{64}")

Basis = Literal["content", "name"]


@dataclass(frozen=True, kw_only=True)
class DataSet:
    """A set of real faces that a net was trained on.

    Attributes:
        license: None if unknown.
        images, identities: how many the net saw; None if unknown.
        sha256: of the content (`content_hash`); None if unknown.
    """

    name: str
    license: str | None = None
    images: int | None = None
    identities: int | None = None
    sha256: str | None = None

    @staticmethod
    def from_record(value: Mapping[str, Any]) -> DataSet:
        """The inverse of `dataclasses.asdict`.

        Raises:
            DataError: a field is missing, unknown or of another type.
        """
        types = {"name": str, "license": str, "images": int, "identities": int, "sha256": str}
        wrong = not isinstance(value, Mapping) or set(value) != set(types) or not isinstance(value["name"], str)
        if wrong or any(found is not None and type(found) is not types[name] for name, found in value.items()):
            raise DataError(f"lineage: got {str(value)[:80]}; allowed: an object with {', '.join(types)}")
        return DataSet(**value)


@dataclass(frozen=True, kw_only=True)
class CheckedSet:
    """A data set of the lineage, and how the audit found it among the faces that it compared the set with.

    Attributes:
        held_against: by "content", where the hashes are equal; by "name", where the user says that faces given to the
            audit are this data set, and they are at least as many; None if the set was not compared with it.
    """

    data: DataSet
    held_against: Basis | None

    def record(self) -> dict[str, Any]:
        return asdict(self)

    @staticmethod
    def from_record(value: Mapping[str, Any]) -> CheckedSet:
        """The inverse of `record`."""
        return CheckedSet(data=DataSet.from_record(value["data"]), held_against=value["held_against"])


def content_hash(files: Iterable[tuple[str, str]]) -> str:
    """A hash of a set of tars, given as (name, sha256)."""
    return hashlib.sha256(json.dumps(sorted(files)).encode()).hexdigest()


def unknown_origin(net: str) -> DataSet:
    """What stands in for the data of a net without a lineage; `net` is the config field that names its weights."""
    return DataSet(name=f"{UNKNOWN}: {net}")


def lineage_text(sets: Iterable[DataSet]) -> str:
    """The metadata of a net that was trained on these sets, each listed once."""
    return json.dumps([asdict(one) for one in dict.fromkeys(sets)], sort_keys=True, ensure_ascii=False)


def read_lineage(metadata: Mapping[str, str], *, net: str) -> tuple[DataSet, ...]:
    """The data sets in the metadata of a weights file; `unknown_origin(net)` where there are none.

    Raises:
        DataError: the metadata has a lineage that cannot be read.
    """
    if LINEAGE not in metadata:
        return (unknown_origin(net),)
    try:
        found = json.loads(metadata[LINEAGE])
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, list) or not found:
        raise DataError(f"{net}: the lineage in the file's metadata is not a list of data sets; use the original file")
    return tuple(plain(DataSet.from_record(one)) for one in found)


def plain(one: DataSet) -> DataSet:
    """The same data set, which came in a file of others; its texts stand in messages and on cards.

    Raises:
        DataError: a text that is empty, very long or not one line, a negative number, or a hash of another kind.
    """
    texts = (one.name, one.license or "")
    fine = one.name.strip() and all(len(text) <= MAX_TEXT and not BREAKS.search(text) for text in texts)
    numbers = all(0 <= number < 2**63 for number in (one.images, one.identities) if number is not None)
    if not fine or not numbers or (one.sha256 is not None and not SHA256.fullmatch(one.sha256)):
        raise DataError(
            f"lineage: got {ascii(one.name)[:80]}; allowed: a name and a license of one line, at most {MAX_TEXT} "
            "characters, numbers from 0, and a sha256"
        )
    return one


def checked(lineage: Iterable[DataSet], *, own: DataSet, also: Sequence[DataSet]) -> tuple[CheckedSet, ...]:
    """Each data set of a lineage once, and whether it is among those that an audit compares with.

    Args:
        own: the run's training faces, which are known by their content only.
        also: other sets, whose names the user gave.
    """
    return tuple(CheckedSet(data=one, held_against=_basis(one, own, also)) for one in dict.fromkeys(lineage))


def _basis(wanted: DataSet, own: DataSet, also: Sequence[DataSet]) -> Basis | None:
    large = [one for one in also if wanted.images is not None and (one.images or 0) >= wanted.images]
    known = wanted.sha256 is not None and any(one.sha256 == wanted.sha256 for one in (own, *large))
    if wanted == own or known:
        return "content"
    # No faces can be those of a net that does not say what it was trained on, whatever the user calls them.
    unknown = wanted.name.startswith(UNKNOWN)
    return "name" if not unknown and any(one.name == wanted.name for one in large) else None
