"""Strict JSON objects: reproducible bytes that every parser reads; ambiguous or non-standard input is refused."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any, NoReturn

from shards.errors import DataError


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
            or nesting too deep for the parser.
    """
    try:
        value = json.loads(
            data.decode("utf-8"),
            object_pairs_hook=_unique,
            parse_constant=_refuse_constant,
            parse_float=_finite,
        )
    except (ValueError, RecursionError) as error:  # includes JSONDecodeError and UnicodeDecodeError
        raise DataError(f"{where}: invalid JSON: {error}") from None
    if not isinstance(value, dict):
        raise DataError(f"{where}: got a JSON {type(value).__name__}, expected an object")
    return value


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    record = dict(pairs)
    if len(record) != len(pairs):
        names = [name for name, _ in pairs]
        raise ValueError(f"key {next(name for name in names if names.count(name) > 1)!r} appears twice")
    return record


def _refuse_constant(text: str) -> NoReturn:
    raise ValueError(f"{text} is not a JSON number")


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(f"{text} overflows a float")
    return number
