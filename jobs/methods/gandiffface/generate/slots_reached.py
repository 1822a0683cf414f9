"""How far pictures show what was asked of them: shares of each value, and correlations of asked and measured."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, partial
from typing import Any

import numpy as np

from cemiface.gandiff.prompts import Grammar, Range
from cemiface.gandiff.slots import Slot
from cemiface.measures.score_intervals import drawn_identities, interval
from jobs.methods.gandiffface.generate.checks import measured_field, ranges_of, reached_slots

DIGITS = 4


@dataclass(frozen=True, kw_only=True)
class AskedSlot:
    """A slot that a picture was asked for.

    Attributes:
        measured: by attribute that tells the slot's value, what was measured.
        ranges: by the same attributes, what a picture shows that has the value.
        reached: whether it shows it; None where nothing is measured.
    """

    identity: str
    slot: str
    value: str
    measured: Mapping[str, float]
    ranges: Mapping[str, Range]
    reached: bool | None


def asked_slots(
    records: Iterable[Mapping[str, Any]], *, slots: Sequence[Slot], grammar: Grammar
) -> Iterator[AskedSlot]:
    """Everything that was asked for, picture by picture."""
    ranges_known = cache(partial(ranges_of, slots=slots, grammar=grammar))
    for record in records:
        asked = record["asked"]
        ranges = {slot: ranges_known(slot, value) for slot, value in asked.items()}
        names = {name for shown in ranges.values() for name in shown if measured_field(name) in record}
        measured = {name: float(record[measured_field(name)]) for name in names}
        reached = reached_slots(asked, measured, slots=slots, grammar=grammar)
        for slot, value in asked.items():
            yield AskedSlot(
                identity=record["identity"],
                slot=slot,
                value=value,
                measured={name: measured[name] for name in ranges[slot] if name in measured},
                ranges=ranges[slot],
                reached=reached.get(slot),
            )


def shares(asked: Iterable[AskedSlot]) -> dict[str, dict[str, Any]]:
    """By slot and value: images, and where it is measured the share that shows it and the mean of each attribute."""
    images: Counter[tuple[str, str]] = Counter()
    reached: Counter[tuple[str, str]] = Counter()
    sums: dict[tuple[str, str], Counter[str]] = {}
    for one in asked:
        images[one.slot, one.value] += 1
        if one.reached is not None:
            reached[one.slot, one.value] += one.reached
            sums.setdefault((one.slot, one.value), Counter()).update(one.measured)
    found: dict[str, dict[str, Any]] = {}
    for (slot, value), count in sorted(images.items()):
        line: dict[str, Any] = {"images": count}
        if (slot, value) in sums:
            line["reached"] = round(reached[slot, value] / count, DIGITS)
            line["mean"] = {name: round(total / count, DIGITS) for name, total in sums[slot, value].items()}
        found.setdefault(slot, {})[value] = line
    return found


def correlations(asked: Iterable[AskedSlot], *, seed: int) -> dict[str, Any]:
    """Pearson's correlation of asked and measured by attribute, with 95 % bootstrap intervals over identities.

    Asked is the place of the value's range among all that were asked for, from 0 for the lowest. Attributes of which
    always the same was asked have none.
    """
    columns: dict[str, tuple[list[str], list[Range], list[float]]] = {}
    for one in asked:
        for name, value in one.measured.items():
            identities, wanted, measured = columns.setdefault(name, ([], [], []))
            identities.append(one.identity)
            wanted.append(one.ranges[name])
            measured.append(value)
    found = {}
    for name, (identities, wanted, measured) in sorted(columns.items()):
        place = {bounds: place for place, bounds in enumerate(sorted(set(wanted), key=_lowest_first))}
        if len(place) > 1 and min(measured) < max(measured):
            places = np.array([place[bounds] for bounds in wanted])
            pearson = _pearson(np.array(identities), places, np.array(measured), seed=seed)
            found[name] = {"images": len(wanted), **pearson}
    return found


def _lowest_first(bounds: Range) -> tuple[float, float]:
    low, high = bounds
    return (-math.inf if low is None else low, math.inf if high is None else high)


def _pearson(identities: np.ndarray, x: np.ndarray, y: np.ndarray, *, seed: int) -> dict[str, Any]:
    names, labels = np.unique(identities, return_inverse=True)
    x, y = (x - x.mean()) / x.std(), (y - y.mean()) / y.std()
    sums = np.stack([np.bincount(labels, weights=one) for one in (np.ones_like(x), x, y, x * x, y * y, x * y)])

    def correlation(times: np.ndarray) -> float:
        x_mean, y_mean, xx, yy, xy = (sums[1:] @ times) / (sums[0] @ times)
        variances = (xx - x_mean**2) * (yy - y_mean**2)
        return float((xy - x_mean * y_mean) / np.sqrt(variances)) if variances > 1e-12 else 0.0

    bounds = interval(lambda draw: {"value": correlation(drawn_identities(len(names), draw=draw))}, seed=seed)["value"]
    value = correlation(np.ones(len(names)))
    return {"value": round(value, DIGITS), "interval": [round(bound, DIGITS) for bound in bounds]}
