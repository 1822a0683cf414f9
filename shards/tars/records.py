"""Records of synthetic images: what marks an image as synthetic, and what was asked of it.

The record of a generated image has `origin: synthetic` and `asked`, a mapping such as {"m": 0.5}. Older records have
`m` instead of `asked`, and no origin, except that copies of an identity's first face have the origin "inquiry". The
record of a real face has `origin: real` and `source`, the file that it came from; older ones have `source` alone.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

SYNTHETIC, REAL = "synthetic", "real"  # origins

Asked = Mapping[str, float | str]  # what was asked of an image, such as {"m": 0.5}

OLD_KEY, OLD_COPY = "m", "inquiry"  # key of the only value, and origin of copies, in records without `asked`

FIELD, IDENTITY = re.compile(r"[a-z][a-z0-9_]{0,39}"), re.compile(r"synthetic-[0-9]{1,18}")  # of public records
WORD = re.compile(r"[A-Za-z0-9][A-Za-z0-9_ +-]{0,39}")  # that was asked for, in public records
KEY = re.compile(r"[0-9]{6,18}-[0-9]{3,18}")  # of a public image: numbers of identity and image

# With at most this many distinct numbers, each is a group; more are treated as continuous and rounded to 0.1.
MAX_VALUES = 21


def is_real(record: Mapping[str, Any]) -> bool:
    """Whether a record says that its image is of a real person; older ones say so by the file that it came from."""
    return "source" in record or record.get("origin") == REAL


def is_synthetic(record: Mapping[str, Any]) -> bool:
    """Whether an image was generated."""
    if is_real(record):
        return False
    if "asked" in record:
        return record.get("origin") == SYNTHETIC
    return OLD_KEY in record and record.get("origin", OLD_COPY) == OLD_COPY


def private_field(record: Mapping[str, Any]) -> str | None:
    """The first field of a synthetic image's record that may hold something private, None if there is none.

    Numbers are public, and so are the names of synthetic identities, the origins, and what was asked for.
    """
    for name, value in record.items():
        if not FIELD.fullmatch(name):
            return name
        if name in ("identity", "copy_of"):
            public = isinstance(value, str) and IDENTITY.fullmatch(value) is not None
        elif name == "origin":
            public = value in (SYNTHETIC, OLD_COPY)
        elif name == "asked":
            public = isinstance(value, Mapping) and all(map(_may_be_asked, value, value.values()))
        else:
            public = value is None or _is_number(value)
        if not public:
            return name
    return None


def _may_be_asked(key: Any, value: Any) -> bool:
    """Whether a request is a number or a short word under a plain name; paths and names of files are not."""
    word = isinstance(value, str) and WORD.fullmatch(value) is not None
    return isinstance(key, str) and FIELD.fullmatch(key) is not None and (word or _is_number(value))


def _is_number(value: Any) -> bool:
    """Whether a value is a number that is no text in disguise."""
    return isinstance(value, int | float) and abs(value) < 2**64


def is_copy(record: Mapping[str, Any]) -> bool:
    """Whether a synthetic image is a copy of its identity's first face, not one that was generated for the set."""
    return "copy_of" in record or ("asked" not in record and record.get("origin") == OLD_COPY)


def asked_of(record: Mapping[str, Any]) -> Asked:
    """What was asked of a synthetic image; raises KeyError for a record of a real image."""
    asked: Asked = record["asked"] if "asked" in record else {OLD_KEY: record[OLD_KEY]}
    return asked


def upgraded(record: Mapping[str, Any]) -> dict[str, Any]:
    """A synthetic image's record in the current form, with `origin` and `asked`, whichever version wrote it."""
    copied = {"copy_of": record["identity"]} if is_copy(record) else {}
    return {**record, **copied, "origin": SYNTHETIC, "asked": dict(asked_of(record))}


class Groups:
    """Groups of images by what was asked of them, for tables and curves.

    Attributes:
        labels: by key, the names of its groups: numbers by size, then strings.
    """

    def __init__(self, asked: Iterable[Asked]) -> None:
        """Args: asked: of all images."""
        values: dict[str, set[float | str]] = {}
        for one in asked:
            for key, value in one.items():
                values.setdefault(key, set()).add(value)
        self._rounded = {key for key, found in values.items() if len(found) > MAX_VALUES and _all_numbers(found)}
        self.labels = {
            key: list(dict.fromkeys(self.label(key, value) for value in sorted(found, key=_value_key)))
            for key, found in sorted(values.items())
        }

    def label(self, key: str, value: float | str) -> str:
        """The name of the group of one value."""
        if isinstance(value, str):
            return value
        return f"{round(value, 1) + 0.0 if key in self._rounded else value:g}"  # + 0.0 turns -0.0 into 0.0

    def of(self, asked: Asked) -> dict[str, str]:
        """By key, the name of the group that an image is in."""
        return {key: self.label(key, value) for key, value in asked.items()}


def sort_key(asked: Asked) -> tuple[tuple[bool, float, str], ...]:
    """Orders images by what was asked of them, key by key in alphabetical order of the keys."""
    return tuple(_value_key(asked[key]) for key in sorted(asked))


def _value_key(value: float | str) -> tuple[bool, float, str]:
    """Orders numbers by size before strings in alphabetical order."""
    return (True, 0.0, value) if isinstance(value, str) else (False, value, "")


def _all_numbers(values: Iterable[float | str]) -> bool:
    return not any(isinstance(value, str) for value in values)
