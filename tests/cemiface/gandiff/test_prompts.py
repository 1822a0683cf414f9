from __future__ import annotations

from collections import Counter

import pytest
from pydantic import ValidationError

from cemiface.errors import ModelError
from cemiface.gandiff.prompts import Grammar, check_values, drawn_prompts, phrased

GRAMMAR = Grammar.model_validate(
    {
        "slots": {
            "accessory": {"none": {"weight": 2}, "hat": {"phrase": "wearing a hat"}, "mask": {"phrase": "masked"}},
            "pose": {"frontal": {"weight": 3, "phrase": "frontal view"}, "profile": {}},
        },
        "forbidden": [{"accessory": "mask", "pose": "profile"}],
    }
)


def test_every_identity_gets_every_value_in_proportion_to_its_weight():
    for seed in range(20):
        prompts = drawn_prompts(GRAMMAR, images=40, seed=seed)
        assert Counter(one["accessory"] for one in prompts) == {"none": 20, "hat": 10, "mask": 10}
        assert Counter(one["pose"] for one in prompts) == {"frontal": 30, "profile": 10}


def test_what_does_not_divide_is_drawn_so_that_shares_hold_over_identities():
    counts = Counter(one["pose"] for seed in range(400) for one in drawn_prompts(GRAMMAR, images=2, seed=seed))
    assert counts["profile"] / 800 == pytest.approx(0.25, abs=0.04)


def test_forbidden_values_never_meet():
    for seed in range(50):
        assert all(GRAMMAR.allows(one) for one in drawn_prompts(GRAMMAR, images=8, seed=seed))


def test_prompts_follow_from_the_seed():
    assert drawn_prompts(GRAMMAR, images=9, seed=3) == drawn_prompts(GRAMMAR, images=9, seed=3)
    assert drawn_prompts(GRAMMAR, images=9, seed=3) != drawn_prompts(GRAMMAR, images=9, seed=4)


def test_a_grammar_that_forbids_everything_is_one_line():
    grammar = GRAMMAR.model_copy(
        update={"forbidden": ({"accessory": "none", "pose": "frontal"}, {"accessory": "none", "pose": "profile"})}
    )
    with pytest.raises(ModelError, match=r"^prompts.forbidden: leaves no way"):
        drawn_prompts(grammar, images=8, seed=0)


def test_a_prompt_becomes_a_sentence_with_the_phrases_of_its_values():
    assert phrased(GRAMMAR, {"accessory": "hat", "pose": "frontal"}, subject="a woman") == (
        "photo of a woman, wearing a hat, frontal view"
    )
    assert phrased(GRAMMAR, {"accessory": "none", "pose": "profile"}, subject="a man") == "photo of a man"


def test_values_that_a_base_does_not_have_are_named():
    check_values(GRAMMAR, {"accessory": ("none", "hat", "mask"), "pose": ("frontal", "profile")})
    with pytest.raises(ModelError, match="got 'mask'; allowed: none, hat"):
        check_values(GRAMMAR, {"accessory": ("none", "hat"), "pose": ("frontal", "profile")})
    with pytest.raises(ModelError, match="got pose, which the base does not have"):
        check_values(GRAMMAR, {"accessory": ("none", "hat", "mask")})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"forbidden": [{"accessory": "crown", "pose": "frontal"}]}, "which no slot has"),
        ({"forbidden": [{"accessory": "hat"}]}, "values of two slots or more"),
        ({"slots": {"pose": {}}}, "got no value"),
        ({"slots": {"pose": {"a": {"weight": 0}}}}, "greater than 0"),
        ({"sentence": "a face"}, "a text with {subject}"),
        ({"slots": {"pose": {"../x": {}}}}, "pattern"),
    ],
)
def test_impossible_grammars_are_refused(change, message):
    with pytest.raises(ValidationError, match=message):
        Grammar.model_validate({**GRAMMAR.model_dump(), "forbidden": [], **change})
