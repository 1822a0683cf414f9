"""What a synthetic set cost, and how much of it leaked: from the summaries of its run."""

from __future__ import annotations

from typing import Any

from jobs.frame.products import AUDIT, EMBED, EMBEDDER, REFILL
from jobs.frame.run import Run
from jobs.frame.verdicts import shown_verdict
from slurm.markers import marked_units, read_marker


def rank_seconds(run: Run, stage: str) -> float:
    """Time of all ranks of a finished stage together, trainings by all their ranks."""
    summary, folder = run.ledger.summary(stage), run.stage_folder(stage)
    world = summary.figures.get("world_size", 1) if summary else 1
    markers = [marker for unit in marked_units(folder) if (marker := read_marker(folder, unit))]
    return float(sum(marker.ended - marker.started + marker.earlier_seconds for marker in markers) * world)


def facts_of_set(run: Run) -> dict[str, Any]:
    """JSON-ready: `seconds` of all ranks for the stages that made the set, trainings included; nets that were given
    cost nothing here. `leaked`: the share of the audited images that leak, None without an audit.
    """
    stages = (EMBEDDER, EMBED, *run.method.own_stages, REFILL)
    seconds = sum(rank_seconds(run, stage) for stage in stages if run.includes(stage))
    leaked = None
    if run.includes(AUDIT) and run.ledger.summary(AUDIT) is not None:
        verdict = shown_verdict(run)
        leaked = round(len(verdict.leaked) / max(verdict.images, 1), 5)
    return {"method": run.method.name, "seconds": round(seconds, 1), "leaked": leaked}
