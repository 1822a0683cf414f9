"""The jobs of a stage, which rank each of their tasks runs, and the record of them, `<stage>/submission.json`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, get_args

from slurm.files import read_json
from slurm.queue import Task
from slurm.run_folder import StageFolder

Kind = Literal["canary", "array", "distributed"]


@dataclass(frozen=True, kw_only=True)
class SlurmJob:
    """One job of a stage: an array, a distributed job, or the canary that runs one unit ahead of an array."""

    kind: Kind
    first_rank: int
    ranks: int
    ranks_per_task: int
    job: str = ""  # its id, once submitted

    @property
    def tasks(self) -> int:
        return 1 if self.kind == "distributed" else -(-self.ranks // self.ranks_per_task)

    def told(self, known: Mapping[tuple[str, int | None], Task]) -> dict[int, Task]:
        """Slurm's word on each of the job's ranks, where there is one."""
        found = {}
        for number in range(self.ranks):
            # The ranks of a distributed job, and an array of one element, which Slurm makes no array, have no index.
            task = known.get((self.job, number // self.ranks_per_task)) or known.get((self.job, None))
            if task is not None:
                found[self.first_rank + number] = task
        return found


@dataclass(frozen=True, kw_only=True)
class Submission:
    """The last submission of a stage."""

    ranks: int
    submitted: float  # seconds since the epoch, by the clock of the submitting machine
    jobs: tuple[SlurmJob, ...]

    def tasks(self, known: Mapping[tuple[str, int | None], Task]) -> dict[int, Task]:
        """Slurm's word on each rank. Of rank 0, the canary's as long as it is at work, and if it did not end well."""
        found: dict[int, Task] = {}
        for job in sorted(self.jobs, key=lambda job: job.kind == "canary"):
            for rank, task in job.told(known).items():
                if job.kind != "canary" or rank not in found or task.state != "COMPLETED":
                    found[rank] = task
        return found


def read_submission(stage: StageFolder) -> Submission | None:
    """The stage's last submission to Slurm; None where there was none, or its record is not readable."""
    value = read_json(stage.submission)
    try:
        jobs = tuple(
            SlurmJob(
                job=str(job["job"]),
                kind=get_args(Kind)[get_args(Kind).index(job["kind"])],
                first_rank=int(job["first_rank"]),
                ranks=int(job["ranks"]),
                ranks_per_task=max(1, int(job["ranks_per_task"])),
            )
            for job in value["jobs"]
        )
        return Submission(ranks=int(value["ranks"]), submitted=float(value["submitted"]), jobs=jobs)
    except (KeyError, TypeError, ValueError):
        return None
