"""Units of work as JSON, and the plan file."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import pytest

from jobs.frame.unit import PlanFile, SetUnit, Unit, read_plan, write_plan_file
from slurm.run_folder import StageFolder


@dataclass(frozen=True, kw_only=True)
class GrownUnit(Unit):
    """A unit of a later version, which has one more field."""

    tar: str
    first: int
    last: int
    added_later: str | None = None


@pytest.mark.parametrize(
    "unit",
    [
        SetUnit(tar="synthetic-00000.tar", first=0, last=4),
        GrownUnit(tar="a.tar", first=0, last=0, added_later="x"),
        GrownUnit(tar="a.tar", first=0, last=0),
        Unit(),
    ],
)
def test_a_unit_survives_json(unit: Unit) -> None:
    assert type(unit).from_json(json.loads(json.dumps(unit.as_json()))) == unit


def test_none_is_left_out_so_that_a_new_field_makes_no_older_marker_stale() -> None:
    old = SetUnit(tar="a.tar", first=0, last=4).as_json()
    assert GrownUnit(tar="a.tar", first=0, last=4).as_json() == old
    assert GrownUnit.from_json(old).added_later is None
    assert SetUnit(tar="", first=0, last=0).as_json() == {"tar": "", "first": 0, "last": 0}  # only None is left out


@pytest.mark.parametrize("fields", [{"tar": "a.tar", "first": 0}, {"tar": "a.tar", "first": 0, "last": 0, "color": 1}])
def test_a_unit_of_other_fields_is_refused(fields: dict[str, object]) -> None:
    with pytest.raises(TypeError):
        SetUnit.from_json(fields)


def test_the_plan_file_is_read_as_it_was_written(tmp_path: Path) -> None:
    folder = StageFolder(tmp_path)
    assert read_plan(folder) is None
    units = [SetUnit(tar=f"{number}.tar", first=number, last=number).as_json() for number in range(3)]
    plan = PlanFile(stage="generate", units=units, undone=[0, 2])
    write_plan_file(folder, plan)
    assert read_plan(folder) == plan
    assert json.loads(folder.plan.read_text()) == {"stage": "generate", "units": units, "undone": [0, 2]}
    write_plan_file(folder, PlanFile(stage="generate", units=units[:1], undone=[]))
    assert read_plan(folder) == PlanFile(stage="generate", units=units[:1], undone=[])


def test_a_plan_file_without_the_undone_units_is_read(tmp_path: Path) -> None:
    folder = StageFolder(tmp_path)
    folder.plan.write_text('{"stage": "generate", "units": []}')
    assert read_plan(folder) == PlanFile(stage="generate", units=[], undone=[])
