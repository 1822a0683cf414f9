from __future__ import annotations

import pytest

from jobs.methods.gandiffface.portraits.edits import drawn_steps, limits_of, moved_as_asked, strongest

LIMITS = {"yaw": 2.0, "smile": 1.0}


def test_the_first_portrait_is_not_edited_and_the_others_cover_the_range_of_each_attribute():
    steps = drawn_steps(LIMITS, portraits=9, seed=1, candidate=7)
    assert steps[0] == {}
    for name, limit in LIMITS.items():
        parts = sorted(int((step[name] / limit + 1) / 2 * 8) for step in steps[1:])
        assert parts == list(range(8))


def test_steps_follow_from_the_seed_and_the_candidate():
    drawn = [
        drawn_steps(LIMITS, portraits=4, seed=seed, candidate=who) for seed, who in ((1, 7), (1, 7), (2, 7), (1, 8))
    ]
    assert drawn[0] == drawn[1]
    assert drawn[0] not in drawn[2:]


def test_the_strongest_edit_is_the_one_nearest_to_its_limit():
    assert strongest({"yaw": 1.0, "smile": -0.8}, LIMITS) == "smile"


@pytest.mark.parametrize(
    ("step", "after", "moved"), [(1.0, 3.0, True), (1.0, 1.0, False), (-1.0, 1.0, True), (1.0, 2.0, False)]
)
def test_an_edit_has_moved_if_the_attribute_changed_in_its_direction(step, after, moved):
    assert moved_as_asked("yaw", step, before={"yaw": 2.0}, after={"yaw": after}) is moved


def test_attributes_without_a_direction_or_a_limit_are_not_edited():
    assert limits_of({"yaw": 1.0, "age": 0.5, "light": 0.0}, directions=("light", "yaw")) == {"yaw": 1.0}


def test_no_edit_is_drawn_where_no_attribute_has_a_direction():
    assert drawn_steps({}, portraits=3, seed=0, candidate=0) == [{}, {}, {}]
