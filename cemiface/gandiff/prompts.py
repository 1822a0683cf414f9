"""The prompt grammar: slots with weighted values, drawn for every image of an identity. It imports no torch.

The paper varies accessories, poses, expressions and contexts by text prompts, and does not state them. Here a prompt is
a value per slot. A text base turns it into a sentence; the embedded base takes the values themselves.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Self

import numpy as np
from pydantic import Field, model_validator

from cemiface.errors import ModelError
from cemiface.values import FrozenModel

Prompt = Mapping[str, str]  # value by slot
Name = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]{0,39}$")]
Value = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_ +-]{0,39}$")]  # as public records may hold it

Range = tuple[float | None, float | None]

SHUFFLES = 50  # of an identity's values, until no forbidden pair is left


class Choice(FrozenModel):
    """A value of a slot."""

    weight: float = Field(1.0, gt=0, description="Share of the images with this value, relative to the slot's others.")
    phrase: str = Field("", max_length=200, description="How a text base says it; empty: nothing is said.")
    shows: dict[str, Range] = Field(
        {},
        description=(
            "For a text base: what is measured of a picture that shows it, [low, high] by attribute, null is open; "
            "{yaw: [18, null]} for a right profile. Pictures outside of it count as missed. Empty: nothing is measured."
        ),
    )

    def shown_by(self, measured: Mapping[str, float]) -> bool:
        """Whether the measured attributes of a picture are as this value shows; what is not measured is not missed."""
        return all(
            (low is None or measured[name] >= low) and (high is None or measured[name] <= high)
            for name, (low, high) in self.shows.items()
            if name in measured
        )


class Grammar(FrozenModel):
    """What is asked of the images of an identity."""

    slots: dict[Name, dict[Value, Choice]] = Field(
        min_length=1, description="Values of each slot, such as accessory, pose, expression and context."
    )
    forbidden: tuple[dict[Name, Value], ...] = Field(
        (), description="Values that never occur together, such as {accessory: sunglasses, context: night street}."
    )
    negative: dict[Name, Value] = Field(
        {}, description="For the embedded base: the values that images are guided away from."
    )
    negative_text: str = Field("", max_length=1000, description="For a text base: the negative prompt.")
    sentence: str = Field(
        "photo of {subject}",
        max_length=300,
        description="For a text base: how a prompt begins; {subject} is the identity and its class, such as woman.",
    )

    @model_validator(mode="after")
    def _check(self) -> Self:
        for name, values in self.slots.items():
            if not values:
                raise ValueError(f"slots.{name}: got no value; allowed: one or more")
            for value, choice in values.items():
                for attribute, (low, high) in choice.shows.items():
                    if low is not None and high is not None and low >= high:
                        raise ValueError(f"slots.{name}.{value}.shows.{attribute}: got {[low, high]}; allowed: rising")
        for pair in self.forbidden:
            if len(pair) < 2:
                raise ValueError(f"forbidden: got {pair}; allowed: values of two slots or more")
            for name, value in pair.items():
                if value not in self.slots.get(name, {}):
                    raise ValueError(f"forbidden: got {name}: {value}, which no slot has; allowed: values of `slots`")
        if "{subject}" not in self.sentence:
            raise ValueError(f"sentence: got {self.sentence!r}; allowed: a text with {{subject}}")
        return self

    def allows(self, prompt: Prompt) -> bool:
        """Whether no forbidden values occur together."""
        return not any(all(prompt.get(name) == value for name, value in pair.items()) for pair in self.forbidden)


def drawn_prompts(grammar: Grammar, *, images: int, seed: int) -> list[dict[str, str]]:
    """The prompts of one identity's images; `seed` is of the run, this purpose and the identity.

    Every value of a slot is asked for in proportion to its weight, rounded to whole images; only which values meet is
    random. Values of two images are exchanged until no forbidden pair is left.

    Raises:
        ModelError: the grammar forbids what the weights ask for.
    """
    draw = np.random.default_rng(seed)
    for _ in range(SHUFFLES):
        columns = {name: _column(values, images=images, draw=draw) for name, values in grammar.slots.items()}
        prompts = [{name: column[row] for name, column in columns.items()} for row in range(images)]
        if _exchanged(grammar, prompts):
            return prompts
    raise ModelError(
        "prompts.forbidden: leaves no way to ask for every value as often as its weight says; forbid less, or change "
        "the weights"
    )


def _column(values: Mapping[str, Choice], *, images: int, draw: np.random.Generator) -> list[str]:
    """A value for each image, each as often as its weight says; the rest of the rounding is drawn."""
    names = list(values)
    weights = np.array([choice.weight for choice in values.values()])
    exact = images * weights / weights.sum()
    counts = np.floor(exact + 1e-9).astype(np.int64)
    left = images - int(counts.sum())
    if left:
        rest = np.maximum(exact - counts, 1e-12)
        counts[draw.choice(len(names), left, replace=False, p=rest / rest.sum())] += 1
    column = [name for name, count in zip(names, counts.tolist(), strict=True) for _ in range(count)]
    return [column[place] for place in draw.permutation(images).tolist()]


def _exchanged(grammar: Grammar, prompts: list[dict[str, str]]) -> bool:
    """Exchange values between prompts, in place, until all are allowed; returns whether that worked."""
    for one in prompts:
        if grammar.allows(one):
            continue
        names = sorted({name for pair in grammar.forbidden for name in pair})
        swaps = ((name, other) for name in names for other in prompts if other is not one)
        if not any(_swapped(grammar, one, other, name) for name, other in swaps):
            return False
    return True


def _swapped(grammar: Grammar, one: dict[str, str], other: dict[str, str], name: str) -> bool:
    """Exchange a value of two prompts if both are allowed afterwards and the second one was before."""
    if one[name] == other[name] or not grammar.allows(other):
        return False
    one[name], other[name] = other[name], one[name]
    if grammar.allows(one) and grammar.allows(other):
        return True
    one[name], other[name] = other[name], one[name]
    return False


def phrased(grammar: Grammar, prompt: Prompt, *, subject: str) -> str:
    """A prompt as a sentence, phrases in the order of the grammar's slots."""
    phrases = [grammar.slots[name][prompt[name]].phrase for name in grammar.slots if name in prompt]
    return ", ".join([grammar.sentence.format(subject=subject), *(phrase for phrase in phrases if phrase)])


def check_values(grammar: Grammar, known: Mapping[str, Sequence[str]]) -> None:
    """Refuse slots and values that a base does not have.

    Raises:
        ModelError: the first of them.
    """
    asked = [(f"slots.{name}", name, value) for name, values in grammar.slots.items() for value in values]
    asked += [("negative", name, value) for name, value in grammar.negative.items()]
    for field, name, value in asked:
        if name not in known:
            raise ModelError(f"prompts.{field}: got {name}, which the base does not have; allowed: {', '.join(known)}")
        if value not in known[name]:
            raise ModelError(f"prompts.{field}: got {value!r}; allowed: {', '.join(known[name])}")
