"""Checks of a picture: a face, of this identity, no copy of a portrait, and what was asked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from cemiface.gandiff.prompts import Grammar
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


def missed_slots(
    asked: Mapping[str, str], measured: Mapping[str, float], slots: Sequence[Slot], grammar: Grammar
) -> list[str]:
    """The slots that were asked for, can be measured, and show another value; by `shows` where the grammar has it."""
    choices = {
        name: grammar.slots[name][value] for name, value in asked.items() if value in grammar.slots.get(name, {})
    }
    missed = [name for name, choice in choices.items() if not choice.shown_by(measured)]
    measurable = [slot for slot in slots if slot.name in asked and slot.attribute in measured]
    return missed + [
        slot.name
        for slot in measurable
        if not (slot.name in choices and choices[slot.name].shows)
        and slot.value_of(measured[slot.attribute]) != asked[slot.name]
    ]
