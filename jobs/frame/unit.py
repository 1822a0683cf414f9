"""Units of work: the parts of a stage's work, independent of how many tasks do it; and the plan that lists them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any, Generic, Self, TypeVar

from slurm.files import publish_json, read_json
from slurm.run_folder import StageFolder


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


@dataclass(frozen=True, kw_only=True)
class PlanFile:
    """`<stage>/plan.json`: the units as the last launch stored them, and the numbers of those not done by then."""

    stage: str
    units: Sequence[dict[str, Any]]
    undone: Sequence[int]


def write_plan_file(folder: StageFolder, plan: PlanFile) -> None:
    publish_json(
        folder.plan, {"stage": plan.stage, "units": list(plan.units), "undone": list(plan.undone)}, replace=True
    )


def read_plan(folder: StageFolder) -> PlanFile | None:
    """The stored plan, None before the first launch."""
    value = read_json(folder.plan)
    if not isinstance(value, dict):
        return None
    return PlanFile(stage=value["stage"], units=value["units"], undone=value.get("undone") or [])
