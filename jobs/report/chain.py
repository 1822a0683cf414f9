"""The report's parts on the run itself: the chain and its outcomes, costs, rejected inputs, provenance."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from jobs.frame.products import REPORT, SHARD
from jobs.frame.run import Run
from jobs.report.part import Section, Sets, summary
from jobs.report.set_facts import rank_seconds
from slurm.files import read_json
from slurm.markers import marked_units, read_marker

REJECTED_SHOWN = 50


def chain(run: Run, sets: Sets) -> Section:
    """One row per stage before this one; `done` is None for a stage that has not finished."""
    rows = []
    for stage in run.chain:
        if stage.name == REPORT:
            continue
        done = summary(run, stage.name)
        row: dict[str, Any] = {"name": stage.name, "title": stage.title, "done": done}
        if done:
            row["outcomes"] = {name.replace("_", " "): number for name, number in done.counts.items() if number}
            row["adds_up"] = sum(done.counts.values()) == done.images_in
            row["rate"] = done.images_per_second
            row["resumed_after"] = done.figures.get("resumed_after_images", 0)
        rows.append(row)
    return {"chain": rows}


def costs(run: Run, sets: Sets) -> Section:
    """Per finished stage: time on the clock, time of all ranks together, bytes of its outputs."""
    rows = []
    for stage in run.chain:
        done = summary(run, stage.name)
        if not done or stage.name == REPORT:
            continue
        folder = run.stage_folder(stage.name)
        markers = [marker for unit in marked_units(folder) if (marker := read_marker(folder, unit))]
        rows.append(
            {
                "name": stage.name,
                "wall": done.wall_seconds,
                "ranks": rank_seconds(run, stage.name),
                "hosts": len({marker.worker.host for marker in markers if marker.worker}),
                "images": done.images_out,
                "rate": done.images_per_second,
                "bytes": sum(output.bytes for output in done.outputs),
            }
        )
    return {"costs": rows} if rows else None


def rejected(run: Run, sets: Sets) -> Section:
    """Inputs that did not become images, and the reason of each; the first REJECTED_SHOWN of them."""
    sharded = summary(run, SHARD)
    if not sharded:
        return None
    lines = sharded.figures["rejected"]
    return {"lines": lines[:REJECTED_SHOWN], "count": len(lines), "inputs": sharded.images_in}


def provenance(run: Run, sets: Sets) -> Section:
    """Code, versions, machine, seed and the resolved config."""
    return {"provenance": read_json(run.folder.provenance), "seed": run.seed, "config": config_text(run)}


def config_text(run: Run) -> str:
    """The resolved config as YAML, without folders of the machine."""
    fields = run.config.model_dump(mode="json", by_alias=True, exclude={"root", "runs"})
    shown = {name: _without_folders(value) for name, value in fields.items() if value is not None}
    return yaml.safe_dump(shown, sort_keys=False)


def _without_folders(value: Any) -> Any:
    """The value with each path cut down to its last name; URLs stay."""
    if isinstance(value, dict):
        return {name: _without_folders(inner) for name, inner in value.items()}
    if isinstance(value, list):
        return [_without_folders(inner) for inner in value]
    if isinstance(value, str) and "/" in value and "://" not in value and " " not in value:
        return Path(value).name
    return value
