"""Records of every version distinguish real images, synthetic images and copies; and they can be grouped."""

from __future__ import annotations

import pytest

from shards.tars.records import SYNTHETIC, Groups, asked_of, is_copy, is_synthetic, sort_key, upgraded

REAL = {"identity": "a", "source": "a/0.jpg"}
NEW = {"identity": "a", "origin": "synthetic", "asked": {"m": 0.5}}
NEW_COPY = NEW | {"copy_of": "a"}
OLD = {"identity": "a", "m": 0.5}
OLD_COPY = OLD | {"origin": "inquiry"}


@pytest.mark.parametrize("record", [NEW, NEW_COPY, OLD, OLD_COPY])
def test_synthetic_records_of_both_versions_are_recognized(record):
    assert is_synthetic(record)
    assert asked_of(record) == {"m": 0.5}


@pytest.mark.parametrize(
    "record",
    [
        REAL,
        REAL | {"m": 0.5},
        REAL | {"origin": "synthetic", "asked": {"m": 0.5}},
        {"identity": "a"},
        {"identity": "a", "asked": {"m": 0.5}},
        {"identity": "a", "asked": {"m": 0.5}, "origin": "real"},
        {"identity": "a", "asked": {"m": 0.5}, "origin": "inquiry"},
        {"identity": "a", "m": 0.5, "origin": "real"},
    ],
)
def test_everything_else_counts_as_real(record):
    assert not is_synthetic(record)


def test_copies_of_both_versions_are_distinguished_from_generated_images():
    assert [is_copy(record) for record in (NEW, NEW_COPY, OLD, OLD_COPY, REAL)] == [False, True, False, True, False]


def test_a_real_record_has_no_requested_values():
    with pytest.raises(KeyError):
        asked_of(REAL)


def test_old_records_are_upgraded_and_keep_their_fields():
    new = OLD | {"origin": SYNTHETIC, "asked": {"m": 0.5}}
    assert upgraded(OLD) == new
    assert upgraded(OLD_COPY) == new | {"copy_of": "a"}
    assert "origin" not in OLD


@pytest.mark.parametrize("record", [NEW, OLD, OLD_COPY])
def test_an_upgraded_record_is_upgraded_to_itself(record):
    once = upgraded(record)
    assert upgraded(once) == once
    assert is_synthetic(once)
    assert is_copy(once) == is_copy(record)


def test_a_few_distinct_numbers_form_one_group_each_in_ascending_order():
    groups = Groups({"m": value} for value in (1.0, -1.0, 0.25, 0.5, 0.25))
    assert groups.labels == {"m": ["-1", "0.25", "0.5", "1"]}
    assert groups.of({"m": 0.25}) == {"m": "0.25"}


def test_many_numbers_are_rounded_without_a_minus_zero():
    groups = Groups({"m": value / 100} for value in range(-100, 101))
    assert groups.labels["m"] == [f"{value / 10:g}" for value in range(-10, 11)]
    assert [groups.label("m", value) for value in (-0.04, 0.04, 0.349)] == ["0", "0", "0.3"]


@pytest.mark.parametrize(("count", "rounded"), [(21, False), (22, True)])
def test_more_than_21_distinct_numbers_are_treated_as_continuous(count, rounded):
    groups = Groups({"m": value / 100} for value in range(count))
    assert (groups.label("m", 0.12) == "0.1") == rounded


def test_keys_are_grouped_by_themselves_and_may_be_missing():
    groups = Groups([{"pose": "left", "age": 30}, {"pose": "front"}, {"age": 4}])
    assert groups.labels == {"age": ["4", "30"], "pose": ["front", "left"]}
    assert groups.of({"pose": "front"}) == {"pose": "front"}


def test_numbers_come_before_strings_and_are_then_not_rounded():
    groups = Groups({"light": value} for value in ["low", "high", 0.123, *range(30, 0, -1)])
    assert groups.labels["light"] == ["0.123", *map(str, range(1, 31)), "high", "low"]


def test_images_are_sorted_by_size_of_numbers_and_by_key():
    asked = [{"m": 10.0}, {"m": "x"}, {"m": 9.0}, {"m": -1.0}]
    assert sorted(asked, key=sort_key) == [{"m": -1.0}, {"m": 9.0}, {"m": 10.0}, {"m": "x"}]
    assert sort_key({"b": 1.0, "a": "x"}) == sort_key({"a": "x", "b": 1.0})
    assert sort_key({"a": 1.0, "b": 9.0}) < sort_key({"b": 1.0, "a": 2.0})
