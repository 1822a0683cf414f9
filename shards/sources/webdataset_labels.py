"""The identity in the label file of a WebDataset sample: `<key>.cls` or `<key>.json`."""

from __future__ import annotations

import json
import re
from collections import Counter
from dataclasses import dataclass
from typing import Any

from shards.errors import shown
from shards.images.faces import escaped
from shards.small_files import without_mark

FIELDS = ("identity", "label", "cls")  # of the JSON record; the first that is there

MAX_LABEL_BYTES = 2**20

MAX_IDENTITY = 1000  # characters; a longer one counts as none

FLOAT = re.compile(r"-?[0-9]{1,20}\.[0-9]{0,20}(e[+-]?[0-9]{1,3})?", re.IGNORECASE)

NO_VALUE = {"nan", "inf", "-inf", "null", "None"}

MAX_WHOLE = 2**53  # above it, floats leave out whole numbers


@dataclass(frozen=True, slots=True)
class Label:
    """An identity, or None and the reason why the file gives none."""

    identity: str | None
    reason: str = ""


class _Pairs(list[tuple[str, Any]]):
    """A JSON object as its pairs: a key may be in it twice."""


def read_label(data: bytes | None, *, kind: bytes) -> Label:
    """The identity in the content of a `.cls` or `.json` file; `data` is None if it is gone or too large.

    Only the field with the identity has to be valid: it may be text or a whole number. What else a record holds, such
    as NaN in a field that is not read, does not matter.
    """
    if data is None:
        return Label(None, f"its label file has more than {MAX_LABEL_BYTES} bytes or has changed")
    if kind == b"cls":
        return _from_text(escaped(without_mark(data).strip()[: MAX_IDENTITY + 1]))
    try:
        record = json.loads(without_mark(data).decode("utf-8"), object_pairs_hook=_Pairs)
    except (ValueError, RecursionError) as error:
        return Label(None, f"its .json is invalid: {shown(str(error))}")
    if not isinstance(record, _Pairs):
        return Label(None, "its .json holds no object")
    counts = Counter(name for name, _ in record)
    field = next((field for field in FIELDS if field in counts), None)
    if field is None:
        return Label(None, f"its .json has none of {', '.join(FIELDS)}")
    if counts[field] > 1:
        return Label(None, f"its .json has {field} {counts[field]} times")
    value = dict(record)[field]
    if isinstance(value, float) and value.is_integer() and abs(value) <= MAX_WHOLE:
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, str | int):
        return Label(None, f"{field} in its .json is {shown(repr(value), limit=40)}, expected text or a whole number")
    return _checked(escaped(str(value)[: MAX_IDENTITY + 1].encode("utf-8", "surrogatepass")))


def _from_text(text: str) -> Label:
    """The identity of a `.cls` file, which may have been written from a float or from nothing."""
    if text in NO_VALUE:
        return Label(None, f"its .cls holds {text}")
    whole = float(text) if FLOAT.fullmatch(text) else 0.5
    return _checked(str(int(whole)) if whole.is_integer() and abs(whole) <= MAX_WHOLE else text)


def _checked(identity: str) -> Label:
    if 0 < len(identity) <= MAX_IDENTITY:
        return Label(identity)
    return Label(None, f"its label is empty or longer than {MAX_IDENTITY} characters")
