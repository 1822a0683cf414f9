"""One identity while its portraits are made, and the records of its portraits."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from jobs.frame.method import ImageRequest, identity_name
from shards.tars.records import SYNTHETIC


@dataclass(frozen=True, kw_only=True)
class Portrait:
    """An accepted portrait: moved by `steps` along directions, or another cut of a given picture."""

    face: np.ndarray
    original: bytes | None  # a JPEG
    steps: Mapping[str, float]
    measured: Mapping[str, float]
    cosine: float
    cut: Mapping[str, float] | None = None


@dataclass(frozen=True, kw_only=True)
class Made:
    """A face, with what is measured of it."""

    face: np.ndarray
    original: bytes | None
    embedding: np.ndarray
    measured: Mapping[str, float]

    def portrait(
        self, *, cosine: float, steps: Mapping[str, float] | None = None, cut: Mapping[str, float] | None = None
    ) -> Portrait:
        return Portrait(
            face=self.face, original=self.original, steps=steps or {}, measured=self.measured, cosine=cosine, cut=cut
        )


@dataclass(kw_only=True)
class Person:
    """One identity of a unit; `candidates`: its own, then its spares."""

    identity: int
    candidates: list[int]
    portraits: dict[int, Portrait] = field(default_factory=dict)

    def in_order(self) -> Iterator[tuple[str, Portrait, dict[str, Any]]]:
        """The key, the portrait and the record of each portrait."""
        for index, portrait in sorted(self.portraits.items()):
            key = ImageRequest(identity=self.identity, index=index).key
            yield key, portrait, self._record(index, portrait)

    def _record(self, index: int, portrait: Portrait) -> dict[str, Any]:
        cut = {} if portrait.cut is None else {"cut": {name: round(step, 3) for name, step in portrait.cut.items()}}
        return {
            "identity": identity_name(self.identity),
            "index": index,
            "origin": SYNTHETIC,
            "candidate": self.candidates[0],
            "asked": {name: round(step, 3) for name, step in portrait.steps.items()},
            "measured": {name: round(value, 4) for name, value in portrait.measured.items()},
            "cosine": round(portrait.cosine, 4),
            **cut,
        }


def photographed(
    people: Sequence[Person], *, count: int, one_round: Callable[[Sequence[Person], Counter[str]], None]
) -> Counter[str]:
    """Fill the portraits of people; returns the outcomes of their attempts, replacements, and portraits too few.

    A person without a second portrait is made again from its next spare candidate.
    """
    counts: Counter[str] = Counter()
    pending = list(people)
    while pending:
        one_round(pending, counts)
        pending = [person for person in pending if len(person.portraits) < 2 and len(person.candidates) > 1]
        for person in pending:
            person.candidates.pop(0)
            person.portraits.clear()
            counts["replaced"] += 1
    counts["short"] += sum(count - len(person.portraits) for person in people)
    return counts
