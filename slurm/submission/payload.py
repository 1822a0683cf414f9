"""What a job runs: one function, called with the run folder, the stage and the rank."""

from __future__ import annotations

from dataclasses import dataclass, replace
from importlib import import_module

from slurm.submission.slurm_job import SlurmJob


@dataclass(frozen=True, kw_only=True)
class Payload:
    """What a job runs: a function by name, and the run folder from which it reads everything else."""

    entry: str  # "module:function"
    run: str
    stage: str
    rank: int  # of an array: the first rank of this task; a distributed stage takes its rank from the environment
    ranks: int
    slurm: bool = False  # whether Slurm starts the rank for us; a local one may run inside any other job
    launcher: int | None = None  # process id that local ranks follow
    units: int | None = None  # how many units at most; None: all of the rank
    id: str = ""  # of the run that the job was submitted for

    def __call__(self) -> None:
        """Call the function with this payload."""
        module, _, function = self.entry.partition(":")
        getattr(import_module(module), function)(self)


def payloads(job: SlurmJob, *, payload: Payload) -> list[Payload]:
    """What each task of a job runs; `payload` holds what is common to the stage."""
    if job.kind == "canary":  # as rank 0 of 1 it takes the first undone unit, whichever rank will own that later
        return [replace(payload, rank=0, ranks=1, units=1)]
    return [replace(payload, rank=job.first_rank + task * job.ranks_per_task) for task in range(job.tasks)]
