"""Submission through submitit: local processes or Slurm jobs that run the same payload."""

from __future__ import annotations

import re
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import submitit

from slurm.errors import RunError
from slurm.files import digest
from slurm.run_folder import StageFolder
from slurm.submission.environment import only_allowed
from slurm.submission.job_script import JobExecutor, python_of
from slurm.submission.payload import Payload
from slurm.submission.queue import ask_queue, call, scancel

SECONDS_FOR_SLURM = 60.0  # a controller that takes a thousand jobs is slow to answer

MAX_ARRAY_SIZE = 1001  # Slurm's default, if Slurm cannot be asked; indices stay below it

SECONDS_TO_APPEAR = 1.0  # from the controller's acceptance of a job until squeue lists it


def run_comment(run: Path, stage: str = "") -> str:
    """The comment that marks the jobs of a run in the queue, so that jobs whose id was lost are found, too."""
    return f"cemiface:{digest(str(run))[:12]}:{stage}"


def submit_slurm(
    work: Sequence[Payload], *, stage: StageFolder, parameters: dict[str, Any], code: Path, comment: str
) -> str:
    """Submit one array or distributed job and return its id. No job is submitted twice, whatever sbatch answers.

    Raises:
        RunError: sbatch refused the job, or its answer cannot be understood.
    """
    with only_allowed():
        executor = JobExecutor(folder=stage.submitit_logs, python=python_of(code))
        executor.update_parameters(**parameters)
        try:
            jobs = executor.map_array(_call, work)  # one payload makes a plain job, which needs no other treatment
        except (submitit.core.utils.FailedJobError, submitit.core.utils.FailedSubmissionError, OSError) as error:
            raise RunError(_refusal(stage, str(error), comment=comment)) from None
    job = str(jobs[0].job_id).split("_")[0]
    shown, _ = call("scontrol", "show", "job", job, seconds=SECONDS_FOR_SLURM)
    if shown and f"Comment={comment}" not in shown.split():  # the number came from another line of sbatch's output
        raise RunError(_refusal(stage, f"it answered job {job}, which is not ours", comment=comment))
    return job


def _call(payload: Payload) -> None:
    payload()


def _refusal(stage: StageFolder, answer: str, *, comment: str) -> str:
    lines = [line.strip() for line in answer.splitlines() if line.strip()]
    canceled = _cancel_accepted(comment)
    accepted = f" (job {', '.join(canceled)} was accepted anyway and is now canceled)" if canceled else ""
    return f"{stage.name}: sbatch: {lines[-1] if lines else 'no answer'}{accepted}; fix the cluster file and run again"


def _cancel_accepted(comment: str) -> list[str]:
    """Cancel every job in the queue that has this comment; returns the ids."""
    time.sleep(SECONDS_TO_APPEAR)
    try:
        jobs = jobs_in_queue(comment)
    except RunError:
        return []
    if jobs:
        scancel(jobs)
    return jobs


def largest_array() -> int:
    """MaxArraySize of this site; Slurm's default if it cannot be asked."""
    shown, _ = call("scontrol", "show", "config", seconds=SECONDS_FOR_SLURM)
    found = re.search(r"MaxArraySize\s*=\s*([0-9]+)", shown)
    return int(found[1]) if found else MAX_ARRAY_SIZE


def jobs_in_queue(comment: str) -> list[str]:
    """Ids of this user's queued and running jobs whose comment begins with `comment`; an array counts once.

    Raises:
        RunError: Slurm gave no answer.
    """
    answer = ask_queue()
    if answer.no_answer is not None:
        raise RunError(f"the queue cannot be read: {answer.no_answer}; submit from where squeue works")
    active = (task for task in answer.tasks.values() if task.pending or task.running)
    return sorted({task.job for task in active if task.comment.startswith(comment)})
