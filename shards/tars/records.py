"""Records of synthetic images: what marks an image as synthetic, and what was asked of it.

A generated image's record has `origin: synthetic` and `asked`, a mapping such as {"m": 0.5}. Sets made before there
were these two have `m` alone, and copies of a generated identity's first face had the origin "inquiry".
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

SYNTHETIC = "synthetic"
Asked = Mapping[str, float | str]
OLD_KEY, OLD_COPY = "m", "inquiry"  # in records without `asked`
MAX_VALUES = 21  # numbers of one key that are groups of their own; more, as of a continuous range, are rounded to 0.1


def is_synthetic(record: Mapping[str, Any]) -> bool:
    """Whether the record says that its image was generated; a record of a real image names the file it came from."""
    if "source" in record:
        return False
    if "asked" in record:
        return record.get("origin") == SYNTHETIC
    return OLD_KEY in record and record.get("origin", OLD_COPY) == OLD_COPY


def is_copy(record: Mapping[str, Any]) -> bool:
    """Whether the image is a copy of its identity's first face, not one that was generated for the set."""
    return "copy_of" in record or ("asked" not in record and record.get("origin") == OLD_COPY)


def asked_of(record: Mapping[str, Any]) -> Asked:
    """What was asked of a synthetic image."""
    asked: Asked = record["asked"] if "asked" in record else {OLD_KEY: record[OLD_KEY]}
    return asked


def upgraded(record: Mapping[str, Any]) -> dict[str, Any]:
    """The record of a synthetic image with `origin` and `asked`, whichever version wrote it."""
    copied = {"copy_of": record["identity"]} if is_copy(record) else {}
    return {**record, **copied, "origin": SYNTHETIC, "asked": dict(asked_of(record))}


class Groups:
    """The groups that images fall into by each key of what was asked of them, in rising order."""

    def __init__(self, asked: Iterable[Asked]) -> None:
        values: dict[str, set[float | str]] = {}
        for one in asked:
            for key, value in one.items():
                values.setdefault(key, set()).add(value)
        self._rounded = {key for key, found in values.items() if len(found) > MAX_VALUES and _all_numbers(found)}
        self.labels = {
            key: list(dict.fromkeys(self.label(key, value) for value in _in_order(found)))
            for key, found in sorted(values.items())
        }

    def label(self, key: str, value: float | str) -> str:
        """The name of a value's group."""
        if isinstance(value, str):
            return value
        return f"{round(value, 1) + 0.0 if key in self._rounded else value:g}"  # + 0.0: no minus zero

    def of(self, asked: Asked) -> dict[str, str]:
        """The group of an image by each key."""
        return {key: self.label(key, value) for key, value in asked.items()}


def _all_numbers(values: Iterable[float | str]) -> bool:
    return not any(isinstance(value, str) for value in values)


def _in_order(values: Iterable[float | str]) -> list[float | str]:
    """Numbers by size, then words by alphabet."""
    return sorted(
        values,
        key=lambda value: (
            isinstance(value, str),
            value if isinstance(value, str) else "",
            value if not isinstance(value, str) else 0.0,
        ),
    )


def sort_key(asked: Asked) -> tuple[tuple[bool, str, float], ...]:
    """Orders images by what was asked of them, numbers by size."""
    return tuple(
        (isinstance(value, str), str(value) if isinstance(value, str) else "", 0.0 if isinstance(value, str) else value)
        for _, value in sorted(asked.items())
    )
