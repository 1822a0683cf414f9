"""The columns of the report's sheet of generated faces."""

from __future__ import annotations

from itertools import product

from jobs.report.faces import COLUMNS, _columns, text_of
from shards.tars.records import Groups


def columns_of(asked, people):
    return [text_of(column) for column in _columns(Groups(asked), asked, people)]


def test_few_values_are_the_columns_by_size():
    asked = [{"m": 0.5}, {"m": -1.0}, {"m": 0.5}, {"m": -1.0}]
    assert columns_of(asked, {0: [0, 1], 1: [2, 3]}) == ["m = \N{MINUS SIGN}1", "m = 0.5"]


def test_prompts_with_many_parts_have_a_column_for_each_value_that_people_have():
    values = product(("female", "male"), ("down", "level", "up"), ("left", "frontal", "right"), ("neutral", "smile"))
    parts = [dict(zip(("gender", "pitch", "yaw", "smile"), one, strict=True)) for one in values]
    women, men = parts[:18], parts[18:]
    asked = [one for person in range(6) for one in (women if person % 2 else men)[person : person + 3]]
    people = {person: [3 * person, 3 * person + 1, 3 * person + 2] for person in range(6)}
    found = columns_of(asked, people)
    assert {"yaw = left", "smile = smile", "smile = neutral"} <= set(found)
    assert not any("gender" in column for column in found)  # the same in all pictures of a person
    assert len(found) <= COLUMNS


def test_combinations_that_most_people_have_stay_columns():
    asked = [{"color": color, "shape": shape} for color, shape in product(("blue", "red"), ("disk", "ring"))] * 2
    people = {0: [0, 1, 2, 3], 1: [4, 5, 6, 7]}
    assert columns_of(asked, people)[0] == "color = blue, shape = disk"
