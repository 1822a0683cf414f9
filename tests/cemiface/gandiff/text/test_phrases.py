"""What is asked becomes a sentence with a place for the identity."""

from __future__ import annotations

import pytest

from cemiface.errors import ModelError
from cemiface.gandiff.prompts import Choice, Grammar
from cemiface.gandiff.slots import DEFAULT_SLOTS
from cemiface.gandiff.text.phrases import AGES, MEASURED, NOUNS, negative_of, phrases_of

GRAMMAR = Grammar(
    slots={
        "accessory": {"none": Choice(), "hat": Choice(phrase="wearing a hat")},
        "smile": {"laughing": Choice(phrase="laughing out loud")},
    },
    negative_text="drawing, blurry",
)


@pytest.mark.parametrize(
    ("asked", "sentence"),
    [
        ({}, "photo of <identity> person"),
        ({"accessory": "none"}, "photo of <identity> person"),
        ({"gender": "female", "accessory": "hat"}, "photo of <identity> woman, wearing a hat"),
        (
            {"yaw": "left profile", "gender": "male", "age": "60+", "pitch": "level", "light": "dark"},
            "photo of <identity> elderly man, profile view facing left, dim light",
        ),
        ({"age": "30-44", "smile": "smile"}, "photo of <identity> person, smiling"),
        ({"smile": "laughing", "yaw": "frontal"}, "photo of <identity> person, laughing out loud, facing the camera"),
    ],
)
def test_sentences(asked, sentence):
    assert phrases_of(GRAMMAR)(asked) == sentence


def test_every_value_that_portraits_are_measured_with_has_words():
    words = {"gender": NOUNS, "age": AGES, **MEASURED}
    assert {slot.name: set(slot.values) for slot in DEFAULT_SLOTS} == {
        name: set(known) for name, known in words.items()
    }


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"weather": "rain"}, "slot weather: neither the grammar nor the text base has it"),
        ({"accessory": "crown"}, "slot accessory: neither"),
        ({"gender": "robot"}, "slot gender: got 'robot'; allowed: female, male"),
        ({"age": "12"}, "slot age: got '12'"),
        ({"yaw": "upside down"}, "slot yaw: got 'upside down'"),
    ],
)
def test_what_nobody_has_words_for_is_one_line(asked, message):
    with pytest.raises(ModelError, match=message):
        phrases_of(GRAMMAR)(asked)


def test_the_negative_prompt_is_taken_word_by_word():
    assert negative_of(GRAMMAR) == {"prompt": "drawing, blurry"}
    assert negative_of(GRAMMAR.model_copy(update={"negative_text": ""})) == {}
