"""Submission through submitit: local processes or Slurm jobs that run the same payload."""

from __future__ import annotations

import re
import shlex
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from importlib import import_module
from pathlib import Path
from typing import Any

import submitit

from slurm.cluster import Cluster, TrainResources
from slurm.environment import only_allowed
from slurm.errors import RunError
from slurm.files import digest
from slurm.queue import ask_queue, call, scancel
from slurm.run_folder import StageFolder
from slurm.submission import SlurmJob

NEVER = 60 * 24 * 365  # minutes; submitit's local controller wants a limit, our work has none

SECONDS_FOR_SLURM = 60.0  # a controller that takes a thousand jobs is slow to answer

MAX_ARRAY_SIZE = 1001  # Slurm's default, for when it cannot be asked; indices stay below it

SECONDS_TO_APPEAR = 1.0  # from the controller's yes to the job's place in the queue


@dataclass(frozen=True, kw_only=True)
class Payload:
    """What a job runs: a function by name, and the run folder it reads everything else from."""

    entry: str  # "module:function"
    run: str
    stage: str
    rank: int  # of an array: the first rank of this task; a distributed stage takes its rank from the environment
    ranks: int
    launcher: int | None = None  # pid that local ranks follow
    units: int | None = None  # how many units at most; None: all of the rank

    def __call__(self) -> None:
        module, _, function = self.entry.partition(":")
        getattr(import_module(module), function)(self)


def run_comment(run: Path, stage: str = "") -> str:
    """What marks the jobs of a run in the queue, also those whose id was never heard."""
    return f"cemiface:{digest(str(run))[:12]}:{stage}"


def start_local(payload: Payload, *, stage: StageFolder, ranks: int = 1) -> submitit.Job[None]:
    """Start one payload on this machine as `ranks` processes (more than one for distributed stages)."""
    executor = submitit.LocalExecutor(folder=stage.submissions)
    executor.update_parameters(timeout_min=NEVER, tasks_per_node=ranks, stderr_to_stdout=True)
    return executor.submit(payload)


def slurm_jobs(cluster: Cluster, *, stage: str, distributed: bool, units: int, largest_array: int) -> list[SlurmJob]:
    """The jobs of a stage: one distributed job, or arrays below Slurm's limit, each rank in exactly one of them."""
    if distributed:
        world = cluster.of_train(stage).world()
        return [SlurmJob(kind="distributed", first_rank=0, ranks=world, ranks_per_task=world)]
    array = cluster.of_array(stage)
    ranks = max(1, min(array.world(), units))
    each = min(array.ranks_per_task, ranks)
    at_most = max(1, largest_array - 1) * each  # ranks of one array
    jobs = [
        SlurmJob(kind="array", first_rank=first, ranks=min(at_most, ranks - first), ranks_per_task=each)
        for first in range(0, ranks, at_most)
    ]
    if array.canary_from is not None and ranks >= array.canary_from:
        jobs.insert(0, SlurmJob(kind="canary", first_rank=0, ranks=1, ranks_per_task=1))
    return jobs


def payloads(job: SlurmJob, *, payload: Payload) -> list[Payload]:
    """What the tasks of a job run, given what is common to the stage."""
    if job.kind == "canary":  # as the only rank it finds the first unit that is left, whoever's it will be
        return [replace(payload, rank=0, ranks=1, units=1)]
    return [replace(payload, rank=job.first_rank + task * job.ranks_per_task) for task in range(job.tasks)]


def submit_slurm(
    work: Sequence[Payload], *, stage: StageFolder, parameters: dict[str, Any], code: Path, comment: str
) -> str:
    """Submit one array or distributed job and return its id. A job is never submitted twice, whatever sbatch says.

    Raises:
        RunError: sbatch refused it, or cannot be understood.
    """
    with only_allowed():
        executor = _Executor(folder=stage.submissions, python=python_of(code))
        executor.update_parameters(**parameters)
        try:
            jobs = executor.map_array(_call, work)  # of one element: a plain job, which needs no other treatment
        except (submitit.core.utils.FailedJobError, submitit.core.utils.FailedSubmissionError, OSError) as error:
            raise RunError(_refusal(stage, str(error), comment=comment)) from None
    job = str(jobs[0].job_id).split("_")[0]
    shown, _ = call("scontrol", "show", "job", job, seconds=SECONDS_FOR_SLURM)
    if shown and f"Comment={comment}" not in shown.split():  # the number was something else that sbatch said
        raise RunError(_refusal(stage, f"it answered job {job}, which is another one", comment=comment))
    return job


def _refusal(stage: StageFolder, said: str, *, comment: str) -> str:
    lines = [line.strip() for line in said.splitlines() if line.strip()]
    canceled = _take_back(comment)
    kept = f" (job {', '.join(canceled)} was accepted nevertheless, and is canceled)" if canceled else ""
    return f"{stage.name}: sbatch: {lines[-1] if lines else 'no answer'}{kept}; mend the cluster file and run again"


def script(*, stage: StageFolder, parameters: dict[str, Any], tasks: int, code: Path) -> str:
    """The job script as sbatch would get it; needs no Slurm."""
    executor = _Executor(folder=stage.submissions, python=python_of(code))
    executor.update_parameters(**parameters)
    if tasks > 1:
        executor.parameters["map_count"] = tasks
    return executor._make_submission_file_text(executor._submitit_command_str, uid="")


class _Executor(submitit.SlurmExecutor):
    """Also where no Slurm is installed: a dry run renders scripts there, and a submission says what is missing."""

    @classmethod
    def affinity(cls) -> int:
        return 1


def python_of(code: Path) -> str:
    """The interpreter as a job starts it: through `start.py` of the code snapshot."""
    return f"{shlex.quote(sys.executable)} -S -E {shlex.quote(str(code / 'slurm' / 'start.py'))}"


def slurm_parameters(
    job: SlurmJob,
    *,
    stage: StageFolder,
    cluster: Cluster,
    comment: str,
    dependency: str = "",
) -> dict[str, Any]:
    """The sbatch directives of a job, in submitit's names.

    A job whose dependency failed is removed instead of waiting for ever.
    """
    distributed = job.kind == "distributed"
    asked = cluster.of_train(stage.name) if distributed else cluster.of_array(stage.name)
    node_ranks = asked.ranks_per_node if isinstance(asked, TrainResources) else job.ranks_per_task
    extra: dict[str, Any] = {"requeue": True}
    if dependency:
        extra |= {"dependency": dependency, "kill-on-invalid-dep": "yes"}
    parameters: dict[str, Any] = {
        "job_name": f"{stage.root.parent.name}.{stage.name}",
        "comment": comment,
        "partition": asked.partition,
        "account": asked.account,
        "qos": asked.qos,
        "constraint": asked.constraint,
        "exclude": asked.exclude,
        "nodes": asked.nodes if isinstance(asked, TrainResources) else 1,
        "ntasks_per_node": node_ranks,
        "cpus_per_task": cluster.threads(asked),
        "gpus_per_node": node_ranks * asked.gpus or None,
        "mem": f"{node_ranks * asked.memory_gb}GB" if asked.memory_gb else None,
        "time": asked.minutes,
        "signal_delay_s": cluster.stop_signal_seconds,
        "setup": [*(f"export {name}={shlex.quote(value)}" for name, value in asked.environment.items()), *asked.setup],
        # Newer Slurm does not pass on the cores of a task to its step. A failed rank of a process group ends the
        # others; independent ranks of one task finish their work.
        "srun_args": [f"--cpus-per-task={cluster.threads(asked)}", f"--kill-on-bad-exit={int(distributed)}"],
        "additional_parameters": extra,
    }
    if job.kind == "array":
        at_once = getattr(asked, "parallel", None) or job.ranks
        parameters["array_parallelism"] = -(-at_once // job.ranks_per_task)
    asked_for = {name: value for name, value in parameters.items() if value is not None}
    return asked_for | {"wckey": None}  # submitit's default is one that sites which check them do not know


def largest_array() -> int:
    """MaxArraySize of this site, Slurm's default where it cannot be asked."""
    shown, _ = call("scontrol", "show", "config", seconds=SECONDS_FOR_SLURM)
    found = re.search(r"MaxArraySize\s*=\s*([0-9]+)", shown)
    return int(found[1]) if found else MAX_ARRAY_SIZE


def jobs_in_queue(comment: str) -> list[str]:
    """Ids of this user's queued and running jobs whose comment begins with `comment`; arrays count once.

    Raises:
        RunError: Slurm does not tell.
    """
    answer = ask_queue()
    if answer.silence is not None:
        raise RunError(f"the queue cannot be read: {answer.silence}; submit from where squeue works")
    alive = (task for task in answer.tasks.values() if task.pending or task.running)
    return sorted({task.job for task in alive if task.comment.startswith(comment)})


def _take_back(comment: str) -> list[str]:
    """Cancel whatever is in the queue under a comment; returns the ids."""
    time.sleep(SECONDS_TO_APPEAR)
    try:
        jobs = jobs_in_queue(comment)
    except RunError:
        return []
    if jobs:
        scancel(jobs)
    return jobs


def _call(payload: Payload) -> None:
    payload()
