"""Run the shard stage inside the test process: plan, one rank, summary, as a launch and its only rank do."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from jobs.frame.experiment import load_run
from jobs.frame.run import Run

from ..one_rank import plan_stage, work_alone

STAGE = "shard"


def planned(folder: Path, faces: Path, **fields: Any) -> Run:
    """A run whose launch has stored its plan; `fields` are of the shard section."""
    config = folder / "sharding.yaml"
    config.write_text(yaml.safe_dump({"name": "sharding", "shard": {"faces": str(faces), "image_size": 32, **fields}}))
    run = load_run(config)
    run.folder.create()
    plan_stage(run, STAGE)
    return run


def work(run: Run) -> dict[str, Any]:
    """Do all units in a rank of its own, which knows nothing but the run folder; returns the summary."""
    rank_run = load_run(run.folder.root.parent.parent / "sharding.yaml")
    rank_run.ledger.planned = True
    return work_alone(rank_run, STAGE)


def sharded(folder: Path, faces: Path, **fields: Any) -> tuple[Path, dict[str, Any]]:
    """The stage folder and the summary of a finished stage."""
    run = planned(folder, faces, **fields)
    return run.stage_folder(STAGE).root, work(run)
