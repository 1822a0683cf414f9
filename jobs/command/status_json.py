"""The status of a run as JSON, for scripts (`cemiface status --json`)."""

from __future__ import annotations

from typing import Any

from jobs.frame.run import Run
from jobs.stages.shard.left_out import counts_left_out
from jobs.watch.rank_states import RankState
from jobs.watch.status import RunStatus, StageStatus


def status_as_json(run: Run, status: RunStatus) -> dict[str, Any]:
    """The state of every stage and rank."""
    return {
        "run": str(run.folder.root),
        "done": status.done,
        "at_work": status.at_work,
        "in_trouble": status.in_trouble,
        "held": status.held,
        "slurm": status.no_answer,
        "jobless": status.jobless,
        "accounting": status.no_accounts,
        "stages": [{**_stage_as_json(stage), "left_out": counts_left_out(run, stage.name)} for stage in status.stages],
    }


def _stage_as_json(stage: StageStatus) -> dict[str, Any]:
    fields = {name: value for name, value in vars(stage).items() if name != "ranks"}
    return {**fields, "restarts": stage.restarts, "ranks": [_rank_as_json(rank) for rank in stage.ranks]}


def _rank_as_json(rank: RankState) -> dict[str, Any]:
    heartbeat, task = rank.facts.heartbeat, rank.facts.task
    return {
        "rank": rank.rank,
        "state": rank.state,
        "reason": rank.reason,
        "node": rank.node,
        "exit": rank.exit,
        "restarts": rank.restarts,
        "images": heartbeat.images if heartbeat else None,
        "pid": heartbeat.worker.pid if heartbeat else None,
        "silent_seconds": round(rank.facts.silent, 1) if heartbeat else None,
        "job": task.name if task else None,
        "job_state": task.state if task else None,
    }
