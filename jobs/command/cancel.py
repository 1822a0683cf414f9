"""`cemiface cancel`: stop the Slurm jobs of a run, or its launch on this machine, after ranks saved their work."""

from __future__ import annotations

import os
import signal
from collections.abc import Collection

from rich.console import Console

from jobs.frame.run import Run
from jobs.launch.living import owner_of
from slurm.errors import RunError
from slurm.processes import is_alive
from slurm.ranks.heartbeats import read_heartbeats
from slurm.ranks.launcher import running_launcher
from slurm.submission.ownership import Ownership
from slurm.submission.queue import ask_queue, scancel


def cancel(run: Run, *, stage: str | None, console: Console) -> None:
    """Stop the jobs of one stage, or of the whole run. They save their work, so that a rerun resumes.

    Raises:
        RunError: nothing is running or queued, or it cannot be stopped from this machine.
    """
    problem: RunError | None = None
    ended: list[str] = []
    try:
        ended = _scancel(run, stage=stage)
    except RunError as error:
        problem = error
    ended += _stop_launcher(run, stage=stage)
    if problem is not None and not ended:
        raise problem
    if problem is not None:
        console.print(str(problem), markup=False, highlight=False, soft_wrap=True)
    if not ended:
        raise RunError(f"{run.folder.root}: {stage or 'the run'} has no running or queued job; nothing to cancel")
    for what in ended:
        console.print(f"asked to stop: {what}", highlight=False, soft_wrap=True)
    console.print("running ranks save their work first; rerun the same command to resume", highlight=False)


def _scancel(run: Run, *, stage: str | None) -> list[str]:
    """Cancel the jobs that are this run's by their comment, or by name and output; see `Ownership`."""
    owner, queue = owner_of(run), ask_queue()
    if queue.no_answer is not None:
        ids = sorted(_on_record(run, owner, stage=stage), key=int)
        if not ids:
            return []
        raise RunError(
            f"jobs {', '.join(ids)} were not canceled: {queue.no_answer}, so they may be those of others by now; "
            "run again where squeue works"
        )
    active = [task for task in queue.tasks.values() if task.pending or task.running]
    jobs = sorted({task.job for task in active if owner.stage_of(task) in _stages(run, stage)}, key=int)
    if not jobs:
        return []
    problem = scancel(jobs)
    if problem is not None:
        raise RunError(f"jobs {', '.join(jobs)} were not canceled: {problem}; rerun where scancel works")
    return [f"{len(jobs)} Slurm job(s), {' '.join(jobs)}"]


def _stages(run: Run, stage: str | None) -> Collection[str]:
    """The stage, or all that the method has: a stage that was taken out of the config may have jobs, too."""
    return run.stages if stage is None else {stage}


def _on_record(run: Run, owner: Ownership, *, stage: str | None) -> set[str]:
    records = owner.records(run.stage_folder(name) for name in _stages(run, stage))
    unfinished = [record for name, record in records.items() if run.ledger.why_not_finished(run.stages[name])]
    return {job.job for record in unfinished for job in record.jobs}


def _stop_launcher(run: Run, *, stage: str | None) -> list[str]:
    launcher = running_launcher(run.folder.lock)
    if launcher is None:
        return []
    if launcher.pid is None:
        raise RunError(f"{run.folder.lock}: the launch runs on another machine; press Ctrl-C there")
    if stage is not None and not _has_ranks_here(run, stage):
        raise RunError(f"{stage}: is not running, another stage is; to stop the launch, run `cancel` without a stage")
    os.kill(launcher.pid, signal.SIGTERM)
    return [f"the launch, process {launcher.pid}"]


def _has_ranks_here(run: Run, stage: str) -> bool:
    running = [found for found in read_heartbeats(run.stage_folder(stage)) if found.state == "running"]
    return any(is_alive(heartbeat.worker.pid) for heartbeat in running)
