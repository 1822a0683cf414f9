"""`<stage>/plan.json`: the units of a stage as the last launch stored them for its ranks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from slurm.files import publish_json, read_json
from slurm.run_folder import StageFolder


@dataclass(frozen=True, kw_only=True)
class PlanFile:
    """The units as JSON, and the numbers of those that were not done when the stage was launched."""

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
