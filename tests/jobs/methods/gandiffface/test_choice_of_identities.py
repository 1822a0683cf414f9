"""How many identities each cell gets, and what is said where there are too few."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from cemiface.errors import ModelError
from jobs.methods.gandiffface.identities.plan import MakeIdentities
from jobs.methods.gandiffface.identities.work import _cell, _refuse_short, _wanted, _why_not

TARGET = {"gender": {"female": 0.5, "male": 0.5}, "age": {"18-29": 0.25, "30+": 0.75}}
POOL = {"female, 18-29": 10, "female, 30+": 30, "male, 18-29": 20, "male, 30+": 40}


def test_wanted_numbers_meet_the_shares_of_every_attribute():
    wanted = _wanted(MakeIdentities(count=40, target=TARGET), POOL)
    assert sum(wanted.values()) == 40
    assert sum(number for cell, number in wanted.items() if cell.startswith("female")) == 20
    assert sum(number for cell, number in wanted.items() if cell.endswith("18-29")) == 10


def test_joint_cells_are_taken_as_given():
    joint = {"female, 18-29": 0.7, "male, 30+": 0.3}
    wanted = _wanted(MakeIdentities(count=10, target=TARGET, joint=joint), POOL)
    assert wanted == {"female, 18-29": 7, "male, 30+": 3}


def test_without_a_target_any_candidate_will_do():
    assert _wanted(MakeIdentities(count=7), {"all": 3}) == {"all": 7}


def test_an_attribute_without_candidates_is_one_line_with_the_numbers_that_there_are():
    with pytest.raises(ModelError, match=r"^identities.target: no candidates .* got candidates in female, 30\+: 30"):
        _wanted(MakeIdentities(count=40, target=TARGET), {"female, 30+": 30})


def test_no_usable_candidate_is_one_line():
    with pytest.raises(ModelError, match="got no usable candidate"):
        _wanted(MakeIdentities(count=40, target=TARGET), {})


def test_short_cells_are_refused_with_the_number_of_candidates_it_would_take():
    with pytest.raises(ModelError, match=r"female: 5 of 10, about 200 candidates; male: 0 of 1, no candidate at all"):
        _refuse_short(MakeIdentities(), candidates=100, wanted={"female": 10, "male": 1}, taken={"female": 5})


def test_with_less_what_there_is_is_taken():
    _refuse_short(MakeIdentities(if_short="less"), candidates=100, wanted={"female": 10}, taken={"female": 5})


@pytest.mark.parametrize(
    ("change", "reason"),
    [({}, None), ({"face": 0.4}, "no_face"), ({"age": 17.5}, "too_young"), ({"nearest": 0.5}, "like_a_real_person")],
)
def test_candidates_without_a_face_too_young_or_like_a_real_person_are_left_out(change, reason):
    values = {"face": 0.9, "age": 30.0, "male": 0.2, "nearest": 0.1, **change}
    config = MakeIdentities(target=TARGET)
    found = _why_not(config, values, nearest=values["nearest"], cell=_cell(config, values))
    assert found == reason


def test_a_candidate_in_no_band_is_in_no_cell():
    config = MakeIdentities(target={"age": {"18-29": 1.0}})
    assert _cell(config, {"age": 40.0}) is None


def test_an_attribute_that_no_net_measures_is_one_line():
    with pytest.raises(ModelError, match="got 'group', which no net measures"):
        _cell(MakeIdentities(target={"group": {"a": 0.5, "b": 0.5}}), {"male": 0.1})


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"target": {"gender": {"female": 0.5}}}, "sum of 0.5000"),
        ({"target": {"gender": {"woman": 1.0}}}, "allowed: female, male"),
        ({"target": {"age": {"18-29": 0.5, "25-40": 0.5}}}, "overlap at 25"),
        ({"target": {"age": {"young": 1.0}}}, "bands such as 18-29"),
        ({"target": TARGET, "joint": {"female": 1.0}}, "a label of each attribute"),
        ({"target": TARGET, "joint": {"female, 18-29": 0.5}}, "joint: got a sum of 0.5000"),
        ({"target": {"group": {"a, b": 1.0}}}, "label with a comma"),
    ],
)
def test_impossible_targets_are_refused_when_the_config_is_read(fields, message):
    with pytest.raises(ValidationError, match=message):
        MakeIdentities(**fields)
