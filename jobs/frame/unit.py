"""Units of work: what a stage divides its work into, independent of how many tasks do it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any, Generic, Self, TypeVar


@dataclass(frozen=True, kw_only=True)
class Unit:
    """One unit of work: what it is made from, never who makes it. Each stage has a subclass of its own.

    Fields are JSON values; a field that is None is left out, so a new optional field makes no older marker stale.
    """

    def as_json(self) -> dict[str, Any]:
        return {part.name: value for part in fields(self) if (value := getattr(self, part.name)) is not None}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Self:
        return cls(**value)


@dataclass(frozen=True, kw_only=True)
class SetUnit(Unit):
    """A tar of the synthetic set: the images of the identities `first` to `last`, both included."""

    tar: str
    first: int
    last: int


UnitT = TypeVar("UnitT", bound=Unit)
UnitT_co = TypeVar("UnitT_co", bound=Unit, covariant=True)


@dataclass(frozen=True, kw_only=True)
class Plan(Generic[UnitT_co]):
    """The units of a stage, and files that spell out what is too long to stand in them.

    A launch stores the files, named relative to the stage folder, for the ranks to read; units hold their hashes.
    """

    units: Sequence[UnitT_co]
    files: Mapping[str, bytes] = field(default_factory=dict)
