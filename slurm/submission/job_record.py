"""The record of the Slurm jobs that were submitted for a stage, `<stage>/submission.json`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass

from pydantic import TypeAdapter, ValidationError

from slurm.files import publish_json, read_json
from slurm.run_folder import StageFolder
from slurm.submission.queue import Task
from slurm.submission.slurm_job import SlurmJob


@dataclass(frozen=True, kw_only=True)
class JobRecord:
    """The jobs of the last launch of a stage on Slurm."""

    ranks: int
    submitted: float  # seconds since the epoch, by the clock of the submitting machine
    jobs: tuple[SlurmJob, ...]
    comment: str = ""  # marks the stage's jobs in the queue
    code: str = ""  # digest of the code snapshot
    run: str = ""  # id of the run; "" in records of older versions
    path: str = ""  # of the run folder, as the jobs got it
    cluster: str = ""  # Slurm's name of the cluster

    def tasks_by_rank(self, known: Mapping[tuple[str, int | None], Task]) -> dict[int, Task]:
        """The task that runs each rank, for ranks whose task Slurm knows.

        For rank 0 this is the canary's task, unless the canary is completed and the array's task is known. A rank that
        was submitted again has the task of its last job.
        """
        found: dict[int, Task] = {}
        for job in sorted(self.jobs, key=lambda job: job.kind == "canary"):
            for rank, task in job.tasks_by_rank(known).items():
                if job.kind != "canary" or rank not in found or task.state != "COMPLETED":
                    found[rank] = task
        return found


_JOB_RECORD = TypeAdapter(JobRecord)


def write_job_record(stage: StageFolder, record: JobRecord) -> None:
    """Write the record; an older one is replaced."""
    publish_json(stage.job_record, asdict(record), replace=True)


def read_job_record(stage: StageFolder) -> JobRecord | None:
    """The record of the last launch; None if the stage was not submitted or the record cannot be read."""
    try:
        return _JOB_RECORD.validate_python(read_json(stage.job_record))
    except ValidationError:
        return None
