"""Units of work, and the plan that lists them. Neither depends on how many ranks do the work."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any, Generic, Self, TypeVar

from pydantic import TypeAdapter, ValidationError

from slurm.files import publish_json, read_json
from slurm.run_folder import StageFolder


@dataclass(frozen=True, kw_only=True)
class Unit:
    """One unit of work of a stage. Each stage has a subclass, whose fields define the outputs of the unit.

    Fields are JSON values. None is left out of the JSON, so that a new optional field makes no older marker stale.
    """

    def as_json(self) -> dict[str, Any]:
        """The fields that are not None, as plans and markers hold them."""
        return {part.name: value for part in fields(self) if (value := getattr(self, part.name)) is not None}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Self:
        """The unit with these fields.

        Raises:
            TypeError: a field is missing or unknown.
        """
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
    """The units of a stage, and files with details that are too long for the units.

    A launch stores the files for the ranks, by name in the stage folder. Units hold the hashes of the files.
    """

    units: Sequence[UnitT_co]
    files: Mapping[str, bytes] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class PlanFile:
    """`<stage>/plan.json`: the units, and the numbers of those that were not done at the last launch."""

    stage: str
    units: Sequence[dict[str, Any]]
    undone: Sequence[int] = field(default_factory=list)


def write_plan_file(folder: StageFolder, plan: PlanFile) -> None:
    """Store the plan; an older one is replaced."""
    publish_json(
        folder.plan, {"stage": plan.stage, "units": list(plan.units), "undone": list(plan.undone)}, replace=True
    )


def read_plan(folder: StageFolder) -> PlanFile | None:
    """The stored plan, None before the first launch; a damaged one counts as none, as the next launch writes it anew.

    Raises:
        DiskError: it cannot be read.
    """
    value = read_json(folder.plan)
    try:
        return _PLAN_FILE.validate_python(value)
    except ValidationError:
        return None


def share(plan: PlanFile | None, *, units: int, rank: int, ranks: int) -> list[int]:
    """The numbers of a rank's units: every `ranks`-th of those that were not done at launch, then of the others."""
    first = [number for number in (plan.undone if plan else ()) if number < units]
    known = set(first)
    order = first + [number for number in range(units) if number not in known]
    return order[rank::ranks]


_PLAN_FILE = TypeAdapter(PlanFile)
