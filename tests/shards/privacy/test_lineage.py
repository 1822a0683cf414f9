"""What nets were trained on travels with their weights, and is found again among what an audit compares with."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from shards.errors import DataError
from shards.privacy.lineage import (
    LINEAGE,
    CheckedSet,
    DataSet,
    checked,
    content_hash,
    lineage_text,
    read_lineage,
    unknown_origin,
)

OWN = DataSet(name="own", license="CC0-1.0", images=100, identities=10, sha256="1" * 64)
WEB = DataSet(name="web", images=50, sha256="2" * 64)


def test_the_metadata_of_a_net_gives_back_the_sets_each_once() -> None:
    assert read_lineage({LINEAGE: lineage_text([OWN, WEB, OWN])}, net="x") == (OWN, WEB)


def test_a_net_without_a_lineage_is_of_unknown_origin() -> None:
    assert read_lineage({"config": "{}"}, net="embedder.weights") == (unknown_origin("embedder.weights"),)
    assert unknown_origin("embedder.weights").name == "unknown origin: embedder.weights"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "{}",
        "[1]",
        '[{"name": "x"}]',
        json.dumps([{**vars(OWN), "images": "many"}]),
        json.dumps([{**vars(OWN), "images": True}]),
        json.dumps([{**vars(OWN), "name": None}]),
        json.dumps([{**vars(OWN), "more": 1}]),
        json.dumps([{**vars(OWN), "name": ""}]),
        json.dumps([{**vars(OWN), "name": "x\n\n# Compared with everything"}]),
        json.dumps([{**vars(OWN), "name": "x\x1b[2J"}]),
        json.dumps([{**vars(OWN), "name": "x" * 1000}]),
        json.dumps([{**vars(OWN), "license": "MIT\n"}]),
        json.dumps([{**vars(OWN), "images": -1}]),
        json.dumps([{**vars(OWN), "sha256": "|\n"}]),
        "[" * 100_000,
    ],
)
def test_a_damaged_lineage_is_an_error_not_an_unknown_origin(text: str) -> None:
    with pytest.raises(DataError, match="lineage"):
        read_lineage({LINEAGE: text}, net="embedder.weights")


def basis(wanted: DataSet, *also: DataSet) -> str | None:
    (found,) = checked([wanted], own=OWN, also=also)
    return found.held_against


def test_a_set_is_found_by_its_content_under_any_name() -> None:
    assert basis(OWN) == "content"
    assert basis(WEB) is None
    assert basis(WEB, replace(WEB, name="other name")) == "content"


def test_a_set_is_found_by_name_only_among_given_sets_that_are_large_enough() -> None:
    given = DataSet(name="web", images=50)
    assert basis(WEB, given) == "name"
    assert basis(WEB, replace(given, images=49)) is None
    assert basis(WEB, replace(given, name="Web")) is None
    assert basis(replace(OWN, sha256="3" * 64)) is None  # the run's own faces are known by their content only
    assert basis(unknown_origin("embedder.weights")) is None


def test_faces_of_a_chosen_name_do_not_stand_in_for_a_net_of_unknown_origin() -> None:
    unknown = unknown_origin("embedder.weights")
    assert basis(unknown, DataSet(name=unknown.name, images=10**6)) is None
    assert basis(replace(unknown, images=1), DataSet(name=unknown.name, images=10**6)) is None


def test_a_part_of_a_set_is_not_the_set() -> None:
    assert basis(WEB, replace(WEB, images=49)) is None
    assert basis(WEB, replace(WEB, images=None)) is None
    assert basis(replace(WEB, images=None), DataSet(name="web", images=1)) is None  # nobody knows how many there are


def test_the_record_of_a_checked_set_gives_it_back() -> None:
    for found in checked([OWN, WEB], own=OWN, also=()):
        assert CheckedSet.from_record(json.loads(json.dumps(found.record()))) == found


def test_the_content_hash_is_that_of_names_and_hashes_in_any_order() -> None:
    files = [("real-00000.tar", "a"), ("real-00001.tar", "b")]
    assert content_hash(files) == content_hash(reversed(files))
    assert content_hash(files) != content_hash(files[:1])
