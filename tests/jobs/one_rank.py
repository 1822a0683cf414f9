"""Runs inside the test process: copies of finished runs, and stages done by one rank."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path
from typing import Any

import yaml

from jobs.frame.experiment import load_run_folder
from jobs.frame.rank import Rank
from jobs.frame.run import Run
from jobs.frame.summary import finish_if_last
from jobs.launch.stage_work import write_plan
from slurm.files import digest
from slurm.ranks.heartbeat_writer import HeartbeatWriter
from slurm.ranks.stop import StopFlag
from slurm.ranks.worker import this_worker


def copied_run(tiny_run: Any, root: Path, *, faces: bool) -> Run:
    """A finished run in another place, free to be changed, with or without the faces it was made from."""
    folder = root / "runs" / "tiny"
    shutil.copytree(tiny_run.folder, folder)
    if faces:
        shutil.copytree(tiny_run.config.parent.parent / "faces", root / "faces")
    edit_config(folder, root=str(root))
    return load_run_folder(folder)


def edit_config(folder: Path, **fields: Any) -> None:
    """Change top-level fields of a run folder's config; None removes a field."""
    path = folder / "config.yaml"
    config = {**yaml.safe_load(path.read_text()), **fields}
    path.write_text(yaml.safe_dump({name: value for name, value in config.items() if value is not None}))


def plan_stage(run: Run, name: str) -> None:
    """Store the stage's plan, with all units to do."""
    run.stage_folder(name).heartbeats.mkdir(parents=True, exist_ok=True)
    write_plan(run, run.stages[name], undone=range(len(run.ledger.plan(name).units)))


def work_alone(run: Run, name: str) -> dict[str, Any]:
    """Do all units of a planned stage in one rank; returns the summary."""
    stage, folder = run.stages[name], run.stage_folder(name)
    heartbeat = HeartbeatWriter(folder, worker=this_worker(0))
    rank = Rank(run=run, stage=stage, index=0, count=1, stop=StopFlag(), heartbeat=heartbeat)
    stage.run_rank(run, rank)
    assert finish_if_last(run, stage)
    summary: dict[str, Any] = json.loads(folder.summary.read_text())
    return summary


def record_again(run: Run, stage: str, name: str) -> None:
    """Have the stage's summary, and its units' markers, record an output as it is now, as if it was written so."""
    folder = run.stage_folder(stage)
    data = folder.output(name).read_bytes()
    now = {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
    for path in (*folder.done.glob("*"), folder.summary):
        record = json.loads(path.read_text())
        for output in record["outputs"]:
            if output["name"] == name:
                output |= now
        if path == folder.summary:
            record["outcome"] = digest(record["outputs"])
        path.write_text(json.dumps(record))
