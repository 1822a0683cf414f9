from __future__ import annotations

import numpy as np
import pytest

from cemiface.gandiff.demographics import TargetError, age_band, candidates_needed, category, check_bands, raked


@pytest.mark.parametrize(
    ("text", "inside", "outside"), [("18-29", (18, 29.9), (17.9, 30)), ("60+", (60, 99), (59.9, 0))]
)
def test_a_band_holds_whole_years_up_to_the_next_birthday(text, inside, outside):
    assert all(age_band(text).holds(age) for age in inside)
    assert not any(age_band(text).holds(age) for age in outside)


@pytest.mark.parametrize("text", ["", "-", "18", "29-18", "18-", "old", "+", "1-2-3", "\u0661-\u0662"])
def test_what_is_no_band_is_refused(text):
    with pytest.raises(TargetError, match="allowed: bands such as 18-29 or 60"):
        age_band(text)


def test_bands_that_overlap_are_refused():
    check_bands(["30-44", "18-29", "60+"])
    with pytest.raises(TargetError, match="overlap at 29"):
        check_bands(["29-44", "18-29"])


def test_a_face_belongs_to_one_label_or_to_none():
    face = {"male": 0.4, "age": 29.4, "group.a": 0.2, "group.b": 0.7}
    assert category("gender", face, labels=("female", "male")) == "female"
    assert category("age", face, labels=("30-44", "18-29")) == "18-29"
    assert category("age", face, labels=("30-44",)) is None
    assert category("group", face, labels=("a", "b")) == "b"
    assert category("group", face, labels=("a",)) is None


def test_raking_meets_the_marginals_and_keeps_the_odds_of_the_pool():
    pool = np.array([[40.0, 10.0, 5.0], [20.0, 30.0, 15.0]])
    joint = raked(pool, [np.array([0.5, 0.5]), np.array([0.2, 0.3, 0.5])])
    assert joint.sum(axis=1) == pytest.approx([0.5, 0.5])
    assert joint.sum(axis=0) == pytest.approx([0.2, 0.3, 0.5])
    odds = [table[0, 0] * table[1, 1] / (table[0, 1] * table[1, 0]) for table in (pool, joint)]
    assert odds[0] == pytest.approx(odds[1])


def test_a_cell_without_candidates_gets_no_one_where_the_marginals_allow_it():
    joint = raked(np.array([[0.0, 10.0], [10.0, 10.0]]), [np.array([0.5, 0.5]), np.array([0.4, 0.6])])
    assert joint[0, 0] == 0
    assert joint.sum(axis=0) == pytest.approx([0.4, 0.6])


def test_marginals_that_empty_cells_make_impossible_are_refused():
    with pytest.raises(TargetError, match="no candidates are in cells that the shares need"):
        raked(np.array([[10.0, 0.0], [0.0, 10.0]]), [np.array([0.5, 0.5]), np.array([0.9, 0.1])])


def test_short_cells_say_how_many_candidates_they_would_take():
    needed = candidates_needed(pool=1000, wanted={"a": 10, "b": 10, "c": 10}, taken={"a": 10, "b": 4})
    assert needed == {"b": 2500, "c": None}
