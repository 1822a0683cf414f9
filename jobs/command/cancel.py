"""Ending what is at work on a run, so that it saves its work: Slurm jobs, or the launcher of this machine."""

from __future__ import annotations

import os
import signal

from rich.console import Console

from jobs.frame.run import Run
from slurm.errors import RunError
from slurm.files import is_alive
from slurm.heartbeats import read_beats
from slurm.launcher import launcher_at_work
from slurm.queue import ask_queue, scancel
from slurm.submission import read_submission
from slurm.submit import run_comment


def cancel(run: Run, *, stage: str | None, console: Console) -> None:
    """End the jobs of one stage, or of the whole run; they save their work, and the same command goes on from there.

    Raises:
        RunError: nothing of it is at work, or it cannot be reached from here.
    """
    ended = [*_scancel(run, stage=stage), *_stop_launcher(run, stage=stage)]
    if not ended:
        raise RunError(f"{run.folder.root}: nothing of {stage or 'it'} is at work, so there is nothing to cancel")
    for what in ended:
        console.print(f"asked to stop: {what}", highlight=False, soft_wrap=True)
    console.print("what runs saves its work first; the same command as before goes on from there", highlight=False)


def _scancel(run: Run, *, stage: str | None) -> list[str]:
    """Cancel the jobs that Slurm knows by the run's comment, and those on record where Slurm cannot be asked."""
    queue = ask_queue()
    if queue.silence is None:
        comment = run_comment(run.folder.root, stage or "")
        at_work = [task for task in queue.tasks.values() if task.pending or task.running]
        jobs = {task.job for task in at_work if task.comment.startswith(comment)} | {
            task.job for task in at_work if task.job in _on_record(run, stage=stage)
        }
    else:
        jobs = _on_record(run, stage=stage)
    if not jobs:
        return []
    problem = scancel(sorted(jobs))
    if problem is not None:
        raise RunError(f"jobs {', '.join(sorted(jobs))} are not canceled: {problem}; try again where Slurm is")
    return [f"{len(jobs)} job(s) of Slurm, {' '.join(sorted(jobs, key=int))}"]


def _on_record(run: Run, *, stage: str | None) -> set[str]:
    records = [read_submission(run.stage_folder(each.name)) for each in run.chain if stage in {None, each.name}]
    return {job.job for record in records if record for job in record.jobs}


def _stop_launcher(run: Run, *, stage: str | None) -> list[str]:
    launcher = launcher_at_work(run.folder.lock)
    if launcher is None:
        return []
    if launcher.pid is None:
        raise RunError(f"{run.folder.lock}: is held from another machine; press Ctrl-C there")
    if stage is not None and not _has_ranks_here(run, stage):
        raise RunError(f"{stage}: is not at work, another stage is; `cancel` without a stage stops the launch")
    os.kill(launcher.pid, signal.SIGTERM)
    return [f"the launch, process {launcher.pid}"]


def _has_ranks_here(run: Run, stage: str) -> bool:
    beats = read_beats(run.stage_folder(stage))
    return any(beat.get("state") == "running" and is_alive(int(beat.get("pid", -1))) for beat in beats)
