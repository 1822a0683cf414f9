"""Strict JSON objects: reproducible bytes that every parser reads; ambiguous or non-standard input is refused."""

from __future__ import annotations

import json
import math
from collections.abc import Hashable, Iterable, Mapping
from typing import Any, NoReturn, TypeVar

from shards.errors import DataError, shown

MAX_BYTES = 2**25  # of an object; a manifest of 200,000 files

ItemT = TypeVar("ItemT", bound=Hashable)


def _encoder(*, indent: int | None = None) -> json.JSONEncoder:
    separators = (",", ":") if indent is None else (",", ": ")
    return json.JSONEncoder(sort_keys=True, separators=separators, indent=indent, ensure_ascii=False, allow_nan=False)


_COMPACT = _encoder()  # built once: millions of records are written


def dumps(record: Mapping[str, Any], *, indent: int | None = None) -> bytes:
    """UTF-8 bytes with sorted keys, hence the same bytes for equal records.

    Raises:
        DataError: NaN, infinity or a lone surrogate, which strict parsers refuse.
    """
    try:
        return (_COMPACT if indent is None else _encoder(indent=indent)).encode(record).encode("utf-8")
    except ValueError as error:  # includes UnicodeEncodeError
        raise DataError(f"the record cannot be written as strict JSON: {error}") from None


def loads(data: bytes, *, where: str) -> dict[str, Any]:
    """Parse one JSON object; `where` names its file and key in errors.

    Raises:
        DataError: not UTF-8, not JSON, not an object, a key twice, NaN, infinity, a number that overflows,
            nesting too deep for the parser, or more than `MAX_BYTES`.
    """
    if len(data) > MAX_BYTES:
        raise DataError(f"{where}: {len(data)} bytes, allowed are {MAX_BYTES}; is it another file?")
    try:
        value = json.loads(
            data.decode("utf-8"),
            object_pairs_hook=_unique,
            parse_constant=_refuse_constant,
            parse_float=_finite,
        )
    except (ValueError, RecursionError) as error:  # includes JSONDecodeError and UnicodeDecodeError
        raise DataError(f"{where}: invalid JSON: {shown(str(error), limit=200)}") from None
    if not isinstance(value, dict):
        raise DataError(f"{where}: got a JSON {type(value).__name__}, expected an object")
    return value


def first_repeated(items: Iterable[ItemT]) -> ItemT | None:
    """The first item that is equal to an earlier one, or None; in linear time."""
    seen: set[ItemT] = set()
    for item in items:
        if item in seen:
            return item
        seen.add(item)
    return None


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    record = dict(pairs)
    if len(record) != len(pairs):
        raise ValueError(f"key {shown(str(first_repeated(name for name, _ in pairs)))!r} appears twice")
    return record


def _refuse_constant(text: str) -> NoReturn:
    raise ValueError(f"{shown(text)} is not a JSON number")


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(f"{shown(text)} overflows a float")
    return number
