"""Records as JSON: equal ones have equal bytes, they come back as written, and what parsers disagree on is refused."""

from __future__ import annotations

import json
import random
from typing import Any

import numpy as np
import pytest

from shards import strict_json
from shards.errors import DataError
from shards.labels import classes_of


def value(draw: random.Random, *, depth: int = 3) -> Any:
    """A random JSON value."""
    kind = draw.randrange(5 if depth == 0 else 7)
    if kind == 0:
        return draw.choice([True, False, None])
    if kind == 1:
        return draw.randint(-(10**18), 10**18)
    if kind == 2:
        return draw.uniform(-1e300, 1e300) * 10 ** draw.randint(-300, 0)
    if kind in (3, 4):
        return "".join(draw.choice('aé"\\\n\0\u2028😀/') for _ in range(draw.randrange(6)))
    if kind == 5:
        return [value(draw, depth=depth - 1) for _ in range(draw.randrange(4))]
    return {f"k{number}": value(draw, depth=depth - 1) for number in range(draw.randrange(4))}


@pytest.mark.parametrize("seed", range(40))
def test_a_record_comes_back_as_written_in_one_line_whatever_the_order_of_its_keys(seed):
    draw = random.Random(seed)
    record = {f"field {number}é": value(draw) for number in range(8)}
    items = list(record.items())
    draw.shuffle(items)
    data = strict_json.dumps(record)
    assert strict_json.dumps(dict(items)) == data
    assert strict_json.loads(data, where="x") == record == json.loads(data)
    assert b"\n" not in data
    assert strict_json.loads(strict_json.dumps(record, indent=1), where="x") == record


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf"), "\ud800", ["\udfff"], {"a": {"b": -1e999}}])
def test_what_strict_parsers_refuse_is_not_written(bad):
    with pytest.raises(DataError, match="the record cannot be written as strict JSON: ") as caught:
        strict_json.dumps({"a": bad})
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "invalid JSON: Expecting value"),
        (b"{", "invalid JSON: Expecting property name"),
        (b'{"a": 1} x', "invalid JSON: Extra data"),
        (b"\xff{}", "invalid JSON: 'utf-8' codec"),
        ('{"a": "é"}'.encode("latin-1"), "invalid JSON: 'utf-8' codec"),
        (b"\xef\xbb\xbf{}", "invalid JSON: "),
        (b'{"a": NaN}', "NaN is not a JSON number"),
        (b'{"a": [-Infinity]}', "-Infinity is not a JSON number"),
        (b'{"a": 1e999}', "1e999 overflows a float"),
        (b'{"a": 1, "b": 2, "a": 1}', "key 'a' appears twice"),
        (b'{"x": {"b": 2, "b": 3}}', "key 'b' appears twice"),
        (b"[1]", "got a JSON list, expected an object"),
        (b'"a"', "got a JSON str, expected an object"),
        (b"1", "got a JSON int, expected an object"),
        (b"null", "got a JSON NoneType, expected an object"),
        (b'{"a":' * 100_000, "invalid JSON: "),
        (b'{"a": ' + b"1" * 5000 + b"}", "invalid JSON: "),
        (b"{'a': 1}", "invalid JSON: "),
    ],
)
def test_what_is_ambiguous_or_no_object_is_refused_naming_its_place(data, words):
    with pytest.raises(DataError) as caught:
        strict_json.loads(data, where="a.tar: key 7")
    assert str(caught.value).startswith("a.tar: key 7: ")
    assert words in str(caught.value)


@pytest.mark.parametrize("seed", range(10))
def test_a_record_cut_anywhere_is_refused(seed):
    data = strict_json.dumps({"a": value(random.Random(seed)), "b": [1, {"c": "é"}]})
    for size in range(len(data)):
        with pytest.raises(DataError, match="invalid JSON"):
            strict_json.loads(data[:size], where="x")


@pytest.mark.parametrize("seed", range(10))
def test_labels_are_positions_among_the_sorted_names_without_gaps(seed):
    draw = random.Random(seed)
    names = [draw.choice(["zoe", "Anna", "anna", "éric", "10", "9", ""]) for _ in range(draw.randint(1, 30))]
    classes, labels = classes_of(names)
    assert classes == sorted(set(names))
    assert [classes[label] for label in labels] == names
    assert labels.dtype == np.int64
    shuffled = draw.sample(names, len(names))
    assert classes_of(shuffled)[0] == classes


def test_no_names_have_no_labels():
    classes, labels = classes_of([])
    assert (classes, labels.tolist(), labels.dtype) == ([], [], np.int64)
