"""Run the shard stage inside the test process: plan, one rank, summary, as a launch and its only rank do."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import yaml

from jobs.config import load_run
from jobs.rank import Rank, finish_if_last
from jobs.stage import Run
from jobs.submission import write_plan
from slurm.beats import Beat, this_worker
from slurm.stop import StopFlag

STAGE = "shard"


def planned(folder: Path, faces: Path, **fields: Any) -> Run:
    """A run whose launch has stored its plan; `fields` are of the shard section."""
    config = folder / "sharding.yaml"
    config.write_text(yaml.safe_dump({"name": "sharding", "shard": {"faces": str(faces), "image_size": 32, **fields}}))
    run = load_run(config)
    run.folder.create()
    run.stage_folder(STAGE).beats.mkdir(parents=True, exist_ok=True)
    write_plan(run, run.stages[STAGE], undone=range(len(run.plan(STAGE))))
    return run


def work(run: Run) -> dict[str, Any]:
    """Do all units in a rank of its own, which knows nothing but the run folder; returns the summary."""
    rank_run = load_run(run.folder.root.parent.parent / "sharding.yaml")
    rank_run.planned = True
    stage, folder = rank_run.stages[STAGE], rank_run.stage_folder(STAGE)
    beat = Beat(folder, 0, worker=this_worker())
    rank = Rank(run=rank_run, stage=stage, index=0, count=1, stop=StopFlag(), beat=beat)
    stage.run_rank(rank_run, rank)
    assert finish_if_last(rank_run, stage)
    summary: dict[str, Any] = json.loads(folder.summary.read_text())
    return summary


def sharded(folder: Path, faces: Path, **fields: Any) -> tuple[Path, dict[str, Any]]:
    """The stage folder and the summary of a finished stage."""
    run = planned(folder, faces, **fields)
    return run.stage_folder(STAGE).root, work(run)
