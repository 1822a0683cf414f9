"""`cemiface cancel`: stop the Slurm jobs of a run, or its launch on this machine, after ranks saved their work."""

from __future__ import annotations

import os
import signal

from rich.console import Console

from jobs.frame.run import Run
from slurm.errors import RunError
from slurm.processes import is_alive
from slurm.ranks.heartbeats import read_heartbeats
from slurm.ranks.launcher import running_launcher
from slurm.submission.job_record import read_job_record
from slurm.submission.queue import ask_queue, scancel
from slurm.submission.submit import run_comment


def cancel(run: Run, *, stage: str | None, console: Console) -> None:
    """Stop the jobs of one stage, or of the whole run. They save their work, so that a rerun resumes.

    Raises:
        RunError: nothing is running or queued, or it cannot be stopped from this machine.
    """
    ended = [*_scancel(run, stage=stage), *_stop_launcher(run, stage=stage)]
    if not ended:
        raise RunError(f"{run.folder.root}: {stage or 'the run'} has no running or queued job; nothing to cancel")
    for what in ended:
        console.print(f"asked to stop: {what}", highlight=False, soft_wrap=True)
    console.print("running ranks save their work first; rerun the same command to resume", highlight=False)


def _scancel(run: Run, *, stage: str | None) -> list[str]:
    """Cancel the jobs with the run's comment, and those in the job record if the queue cannot be read."""
    queue = ask_queue()
    if queue.no_answer is None:
        comment = run_comment(run.folder.root, stage or "")
        active = [task for task in queue.tasks.values() if task.pending or task.running]
        jobs = {task.job for task in active if task.comment.startswith(comment)} | {
            task.job for task in active if task.job in _on_record(run, stage=stage)
        }
    else:
        jobs = _on_record(run, stage=stage)
    if not jobs:
        return []
    problem = scancel(sorted(jobs))
    if problem is not None:
        raise RunError(f"jobs {', '.join(sorted(jobs))} were not canceled: {problem}; rerun where scancel works")
    return [f"{len(jobs)} Slurm job(s), {' '.join(sorted(jobs, key=int))}"]


def _on_record(run: Run, *, stage: str | None) -> set[str]:
    names = [known.name for known in run.chain if stage in {None, known.name}]
    records = [read_job_record(run.stage_folder(name)) for name in names]
    return {job.job for record in records if record for job in record.jobs}


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
