"""Measured attributes become values of slots, and what cannot be told is "not stated"."""

from __future__ import annotations

import numpy as np
import pytest
from pydantic import ValidationError

from cemiface.errors import ModelError
from cemiface.gandiff.slots import (
    DEFAULT_SLOTS,
    Slot,
    SlotDenoiserConfig,
    measured_positions,
    mirrored,
    positions_of,
)

GENDER, AGE, YAW = DEFAULT_SLOTS[:3]


def test_a_measurement_falls_into_the_bin_whose_lower_bound_it_reaches():
    found = measured_positions([AGE], {"age": np.array([17.9, 18, 29.99, 30, 59, 90, np.nan], np.float32)})
    assert found[:, 0].tolist() == [4, 0, 0, 1, 2, 3, 4]
    assert [AGE.value_of(years) for years in (17.9, 18, 30, 90, float("nan"))] == [None, "18-29", "30-44", "60+", None]


def test_an_uncertain_gender_is_not_stated():
    found = measured_positions([GENDER], {"male": np.array([0.1, 0.5, 0.9], np.float32)})
    assert found[:, 0].tolist() == [0, GENDER.not_stated, 1]


def test_a_mirror_image_looks_to_the_other_side():
    faces = {"yaw": np.array([-30.0, 12.0, 0.0], np.float32), "age": np.array([20.0, 30.0, 40.0], np.float32)}
    seen = [YAW.values[row] for row in measured_positions([YAW], faces)[:, 0]]
    other = [YAW.values[row] for row in measured_positions([YAW], mirrored(faces))[:, 0]]
    assert seen == ["left profile", "right", "frontal"]
    assert other == ["right profile", "left", "frontal"]
    assert mirrored(faces)["age"] is faces["age"]


def test_a_prompt_names_some_slots_and_the_others_are_not_stated():
    assert positions_of([GENDER, AGE, YAW], {"yaw": "left", "gender": "male"}) == [1, AGE.not_stated, 1]
    with pytest.raises(ModelError, match=r"slot hat: the base does not have it; allowed: gender, age, yaw"):
        positions_of([GENDER, AGE, YAW], {"hat": "beanie"})
    with pytest.raises(ModelError, match=r"slot yaw: got 'up'; allowed: left profile, left"):
        positions_of([GENDER, AGE, YAW], {"yaw": "up"})


def test_a_slot_whose_attribute_was_not_measured_is_named():
    with pytest.raises(ModelError, match=r"slot age: attribute 'age' was not measured; allowed: yaw; remove"):
        measured_positions([AGE], {"yaw": np.zeros(1)})


@pytest.mark.parametrize(
    ("bins", "message"),
    [
        ({"a": (0, 2), "b": (1, 3)}, "rising bounds, at least 2"),
        ({"a": (2, 2), "b": (3, None)}, "rising bounds"),
        ({"a": (None, 1), "not stated": (1, None)}, "every slot has this value already"),
        ({"a": (None, None)}, "at least 2"),
    ],
)
def test_bins_that_are_none_are_refused(bins, message):
    with pytest.raises(ValidationError, match=message):
        Slot(name="x", attribute="x", bins=bins)


def test_two_slots_of_one_name_are_refused():
    with pytest.raises(ValidationError, match="two slots 'yaw'; allowed: different names"):
        SlotDenoiserConfig(slots=(YAW, YAW))
