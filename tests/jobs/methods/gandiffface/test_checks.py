"""The checks of a picture: whose face it is, and whether it shows what was asked."""

from __future__ import annotations

import numpy as np
import pytest

from cemiface.gandiff.prompts import Grammar
from cemiface.gandiff.slots import DEFAULT_SLOTS
from jobs.methods.gandiffface.generate.checks import Likeness, likeness, reached_slots, why_left_out
from jobs.methods.gandiffface.generate.slots_reached import AskedSlot, asked_slots, correlations, shares

SHOWN = Grammar.model_validate(
    {
        "slots": {
            "pose": {"right profile": {"phrase": "right profile", "shows": {"yaw": [18, None]}}},
            "context": {"park": {"phrase": "in a park"}},
            "smile": {"smile": {"phrase": "smiling", "shows": {"smile": [0.7, None]}}},
        }
    }
)


@pytest.mark.parametrize(
    ("found", "face", "outcome", "expected"),
    [
        (Likeness(center=0.5, nearest=0.5, first=0.5), 0.9, "aligned", None),
        (Likeness(center=0.5, nearest=0.5, first=0.5), 0.0, "no_face", "no_face"),
        (Likeness(center=0.5, nearest=0.5, first=0.5), 0.0, "many_faces", "many_faces"),
        (Likeness(center=0.1, nearest=0.5, first=0.5), 0.9, "aligned", "another_identity"),
        (Likeness(center=0.96, nearest=0.96, first=0.5), 0.9, "aligned", "too_alike"),
        (Likeness(center=0.9, nearest=0.98, first=0.5), 0.9, "aligned", "copy_of_a_portrait"),
    ],
)
def test_the_first_reason_is_the_outcome(found, face, outcome, expected):
    limits = {"min_face": 0.3, "cosine": (0.2, 0.95), "max_portrait_cosine": 0.97}
    assert why_left_out(found, face=face, outcome=outcome, **limits) == expected


def test_pictures_without_a_face_are_kept_if_the_config_asks_for_no_face():
    found = Likeness(center=0.0, nearest=0.0, first=0.0)
    kept = why_left_out(found, face=0, outcome="no_face", min_face=0, cosine=(-1, 1), max_portrait_cosine=1)
    assert kept is None


def test_cosines_are_to_the_center_the_nearest_and_the_first_portrait():
    found = likeness(np.array([2.0, 0.0]), np.array([[0.0, 1.0], [1.0, 0.0]]))
    assert found.center == pytest.approx(2**-0.5)
    assert (found.nearest, found.first) == (1.0, 0.0)


def test_a_slot_is_reached_by_what_the_grammar_says_it_shows():
    asked = {"pose": "right profile", "context": "park", "gender": "female", "smile": "smile"}
    measured = {"yaw": 20.0, "male": 0.1, "smile": 0.8}
    limits = {"slots": DEFAULT_SLOTS, "grammar": SHOWN}
    assert reached_slots(asked, measured, **limits) == {"pose": True, "gender": True, "smile": True}
    # The grammar's limit, not the slot's own, which begins at 0.64.
    turned = {"yaw": 17.0, "male": 0.9, "smile": 0.66}
    assert reached_slots(asked, turned, **limits) == {"pose": False, "gender": False, "smile": False}
    assert reached_slots(asked, {}, **limits) == {}


def pictures(*yaws: tuple[str, float], identities: int = 2) -> list[AskedSlot]:
    """Of each identity the same pictures, of which a yaw was asked and measured."""
    records = [
        {"identity": f"synthetic-{number:06d}", "asked": {"yaw": value, "hat": "red"}, "measured_yaw": measured}
        for number in range(identities)
        for value, measured in yaws
    ]
    grammar = Grammar.model_validate({"slots": {"yaw": {"left": {}, "right": {}}, "hat": {"red": {}}}})
    return list(asked_slots(records, slots=DEFAULT_SLOTS, grammar=grammar))


def test_the_share_of_each_value_is_told_and_what_is_not_measured_has_none():
    found = shares(pictures(("left", -10.0), ("left", -4.0), ("right", 12.0)))
    assert found["yaw"]["left"] == {"images": 4, "reached": 0.5, "mean": {"yaw": -7.0}}
    assert found["yaw"]["right"] == {"images": 2, "reached": 1.0, "mean": {"yaw": 12.0}}
    assert found["hat"]["red"] == {"images": 6}


def test_asked_and_measured_correlate_by_the_order_of_the_ranges():
    draw = np.random.default_rng(0)
    places = {"left profile": 0, "left": 1, "frontal": 2, "right": 3, "right profile": 4}
    asked = [*places] * 20
    measured = [10 * places[value] - 20 + draw.normal(0, 8) for value in asked]
    found = correlations(pictures(*zip(asked, measured, strict=True)), seed=1)
    expected = np.corrcoef([places[value] for value in asked], measured)[0, 1]
    assert found["yaw"]["value"] == pytest.approx(expected, abs=1e-4)
    assert found["yaw"]["images"] == 200
    low, high = found["yaw"]["interval"]
    assert low <= found["yaw"]["value"] <= high
    assert correlations(pictures(("left", -10.0), ("left", -4.0)), seed=1) == {}
