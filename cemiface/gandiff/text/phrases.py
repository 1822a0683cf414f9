"""What is asked of a picture, as a sentence for a text base. Importing this module does not import torch."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from cemiface.errors import ModelError
from cemiface.gandiff.prompts import Grammar, phrased
from cemiface.gandiff.text.text_config import IDENTITY, PROMPT

NOUNS = {"female": "woman", "male": "man"}
AGES = {"18-29": "young", "30-44": "", "45-59": "middle-aged", "60+": "elderly"}

# Words for the measured attributes of portraits, by the default slots; what is usual is not said.
MEASURED: Mapping[str, Mapping[str, str]] = {
    "yaw": {
        "left profile": "profile view facing left",
        "left": "looking to the left",
        "frontal": "facing the camera",
        "right": "looking to the right",
        "right profile": "profile view facing right",
    },
    "pitch": {"down": "looking down", "level": "", "up": "looking up"},
    "mouth": {"closed": "", "open": "mouth open"},
    "smile": {"neutral": "neutral expression", "smile": "smiling"},
    "light": {"dark": "dim light", "medium": "", "bright": "bright light"},
}


def phrases_of(grammar: Grammar | None = None) -> Callable[[Mapping[str, str]], str]:
    """The function that makes a prompt of the values of slots, with IDENTITY where the person is named.

    Values of the grammar's slots are phrased by the grammar, gender and age by the noun behind the identity, and
    other measured attributes by MEASURED. The function raises ModelError for a slot or value that none of them has.
    Without a grammar there are measured attributes alone.
    """

    def phrase(asked: Mapping[str, str]) -> str:
        known = grammar.slots if grammar else {}
        ours = {slot: value for slot, value in asked.items() if value in known.get(slot, {})}
        rest = {slot: value for slot, value in asked.items() if slot not in ours}
        words = [_measured(slot, value) for slot, value in rest.items() if slot not in ("gender", "age")]
        age = _known(AGES, "age", rest["age"]) if "age" in rest else ""
        noun = _known(NOUNS, "gender", rest["gender"]) if "gender" in rest else "person"
        subject = " ".join(word for word in (IDENTITY, age, noun) if word)
        sentence = phrased(grammar, ours, subject=subject) if grammar else f"portrait photo of {subject}"
        return ", ".join([sentence, *(word for word in words if word)])

    return phrase


def check_phrases(grammar: Grammar) -> None:
    """Refuse a grammar with a slot that a text base would never be asked for.

    Raises:
        ModelError: none of a slot's values has a phrase.
    """
    silent = next((name for name, values in grammar.slots.items() if not any(v.phrase for v in values.values())), None)
    if silent is not None:
        raise ModelError(
            f"prompts.slots.{silent}: got no phrase; allowed: a phrase in one value or more, as a text base is asked "
            "in words"
        )


def negative_of(grammar: Grammar) -> dict[str, str]:
    """What a text base is guided away from; {} is the empty prompt."""
    return {PROMPT: grammar.negative_text} if grammar.negative_text else {}


def _measured(slot: str, value: str) -> str:
    if slot not in MEASURED:
        allowed = ", ".join([*MEASURED, "gender", "age"])
        raise ModelError(f"slot {slot}: neither the grammar nor the text base has it; allowed: {allowed}, {PROMPT}")
    return _known(MEASURED[slot], slot, value)


def _known(words: Mapping[str, str], slot: str, value: str) -> str:
    if value not in words:
        raise ModelError(f"slot {slot}: got {value!r}; allowed: {', '.join(words)}; or add it to the grammar")
    return words[value]
