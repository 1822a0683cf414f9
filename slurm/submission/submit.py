"""Submission through submitit: local processes or Slurm jobs that run the same payload."""

from __future__ import annotations

import re
import time
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import submitit

from slurm.errors import RunError
from slurm.run_folder import StageFolder
from slurm.submission.environment import only_allowed
from slurm.submission.job_script import JobExecutor, python_of
from slurm.submission.ownership import Ownership
from slurm.submission.payload import Payload
from slurm.submission.queue import Task, ask_queue, call, scancel

SECONDS_FOR_SLURM = 60.0  # a controller that takes a thousand jobs is slow to answer

MAX_ARRAY_SIZE = 1001  # Slurm's default, if Slurm cannot be asked; indices stay below it

SECONDS_TO_APPEAR = 1.0  # from the controller's acceptance of a job until squeue lists it


def submit_slurm(
    work: Sequence[Payload],
    *,
    stage: StageFolder,
    parameters: dict[str, Any],
    code: Path,
    owner: Ownership,
    known: Collection[str] = (),
) -> str:
    """Submit one array or distributed job and return its id. No job is submitted twice, whatever sbatch answers.

    `known` are the stage's jobs that are in the queue already.

    Raises:
        RunError: sbatch refused the job, or its answer cannot be understood.
    """
    with only_allowed():
        executor = JobExecutor(folder=stage.submitit_logs, python=python_of(code))
        executor.update_parameters(**parameters)
        try:
            jobs = executor.map_array(_call, work)  # one payload makes a plain job, which needs no other treatment
        except (submitit.core.utils.FailedJobError, submitit.core.utils.FailedSubmissionError, OSError) as error:
            raise RunError(_refusal(stage, str(error), owner=owner, known=known)) from None
    job = str(jobs[0].job_id).split("_")[0]
    shown, _ = call("scontrol", "show", "job", job, seconds=SECONDS_FOR_SLURM)
    if shown and owner.stage_of(_shown(job, shown)) != stage.name:  # the number came from another line of the output
        answer = f"it answered job {job}, which is not ours"
        raise RunError(_refusal(stage, answer, owner=owner, known=known))
    return job


def _call(payload: Payload) -> None:
    payload()


def _shown(job: str, text: str) -> Task:
    """What `scontrol show job` says of a job that tells whose it is."""
    found = dict.fromkeys(("JobState", "Comment", "JobName", "StdOut"), "")
    for name in found:
        value = re.search(rf"(?:^|\s){name}=(.*)$", text, re.MULTILINE)
        found[name] = value[1].strip() if value else ""
    state = found["JobState"].partition(" ")[0]
    return Task(
        job=job, index=None, state=state, comment=found["Comment"], called=found["JobName"], output=found["StdOut"]
    )


def _refusal(stage: StageFolder, answer: str, *, owner: Ownership, known: Collection[str]) -> str:
    lines = [line.strip() for line in answer.splitlines() if line.strip()]
    canceled = _cancel_accepted(stage, owner=owner, known=known)
    accepted = f" (job {', '.join(canceled)} was accepted anyway and is now canceled)" if canceled else ""
    return f"{stage.name}: sbatch: {lines[-1] if lines else 'no answer'}{accepted}; fix the cluster file and run again"


def _cancel_accepted(stage: StageFolder, *, owner: Ownership, known: Collection[str]) -> list[str]:
    """Cancel the stage's jobs in the queue that are not known; returns their ids."""
    time.sleep(SECONDS_TO_APPEAR)
    queue = ask_queue()  # without an answer it has no tasks; then the next launch finds the job
    found = {task.job for task in queue.tasks.values() if task.alive and owner.stage_of(task) == stage.name}
    jobs = sorted(found - set(known))
    if jobs:
        scancel(jobs)
    return jobs


@dataclass(frozen=True, kw_only=True)
class Site:
    """What Slurm's configuration says."""

    cluster: str = ""  # its name; "" if Slurm cannot be asked
    largest_array: int = MAX_ARRAY_SIZE


def ask_site() -> Site:
    """The site's configuration; Slurm's defaults if it cannot be asked."""
    shown, _ = call("scontrol", "show", "config", seconds=SECONDS_FOR_SLURM)
    name = re.search(r"^ClusterName\s*=\s*(\S+)", shown, re.MULTILINE)
    largest = re.search(r"MaxArraySize\s*=\s*([0-9]+)", shown)
    return Site(cluster=name[1] if name else "", largest_array=int(largest[1]) if largest else MAX_ARRAY_SIZE)
