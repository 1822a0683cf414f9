"""Checks of a picture: a face, of this identity, no copy of a portrait, and what was asked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from cemiface.gandiff.prompts import Grammar, Range
from cemiface.gandiff.slots import Slot
from cemiface.measures.aligner import Outcome


@dataclass(frozen=True, kw_only=True)
class Likeness:
    """Cosines of a picture under E_id.

    Attributes:
        center: to the center of the identity's portraits.
        nearest: to the nearest portrait.
        first: to the portrait that was not edited.
    """

    center: float
    nearest: float
    first: float


def likeness(embedding: np.ndarray, portraits: np.ndarray) -> Likeness:
    """Of an embedding (E,) to portraits (P, E) of unit length, the first of which was not edited."""
    unit = embedding / max(float(np.linalg.norm(embedding)), 1e-12)
    center = portraits.mean(axis=0)
    center /= max(float(np.linalg.norm(center)), 1e-12)
    cosines = portraits @ unit
    return Likeness(center=float(center @ unit), nearest=float(cosines.max()), first=float(cosines[0]))


def why_left_out(
    found: Likeness,
    *,
    face: float,
    outcome: Outcome,
    min_face: float,
    cosine: tuple[float, float],
    max_portrait_cosine: float,
) -> str | None:
    """The outcome of a picture that is not kept, None if it is kept; `outcome` is that of cutting out its face."""
    if face < min_face:
        return "many_faces" if outcome == "many_faces" else "no_face"
    if found.center < cosine[0]:
        return "another_identity"
    if found.nearest > max_portrait_cosine:
        return "copy_of_a_portrait"
    return "too_alike" if found.center > cosine[1] else None


def measured_field(attribute: str) -> str:
    """The field of a record that holds a measured attribute."""
    return f"measured_{attribute.replace('.', '_').replace('-', '_')}"


def ranges_of(slot: str, value: str, *, slots: Sequence[Slot], grammar: Grammar) -> dict[str, Range]:
    """What is measured of a picture that shows the value of a slot, by attribute: by `shows` where the grammar has it.

    Empty for what is not measured.
    """
    choice = grammar.slots.get(slot, {}).get(value)
    if choice is not None and choice.shows:
        return dict(choice.shows)
    return {one.attribute: one.bins[value] for one in slots if one.name == slot and value in one.bins}


def reached_slots(
    asked: Mapping[str, str], measured: Mapping[str, float], *, slots: Sequence[Slot], grammar: Grammar
) -> dict[str, bool]:
    """By slot that was asked for and can be measured, whether the picture shows the value."""
    known, found = {slot.name: slot for slot in slots}, {}
    for name, value in asked.items():
        if not measured.keys() & ranges_of(name, value, slots=slots, grammar=grammar).keys():
            continue
        choice = grammar.slots.get(name, {}).get(value)
        if choice is not None and choice.shows:
            found[name] = choice.shown_by(measured)
        else:
            found[name] = known[name].value_of(measured[known[name].attribute]) == value
    return found
