"""Which jobs of the queue are those of a run. Job ids say nothing: Slurm gives them out again."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path

from slurm.files import digest
from slurm.run_folder import RunFolder, StageFolder
from slurm.run_identity import RunIdentity, read_identity
from slurm.submission.job_record import JobRecord, read_job_record
from slurm.submission.queue import Task

COMMENT = re.compile(r"cemiface:(?P<run>[0-9a-f]+):(?P<stage>[\w-]*)")


def run_comment(run: str, stage: str) -> str:
    """The comment of a stage's jobs, with the id of the run."""
    return f"cemiface:{run}:{stage}"


@dataclass(frozen=True, kw_only=True)
class Ownership:
    """Tells the jobs of one run folder from all others. `cancel`, `status` and every launch use it.

    A job is the run's if its comment holds the run's id. Some sites replace the comment: then it is the run's if its
    name and its output are those that a launch of this folder gives to jobs.
    """

    identity: RunIdentity
    ids: frozenset[str]  # in comments; older versions wrote a digest of the path
    roots: tuple[Path, ...]  # paths of this run folder that jobs may have got
    clusters: frozenset[str] = field(default=frozenset())  # that the run was submitted to; empty: not known

    @staticmethod
    def of(folder: RunFolder, stages: Iterable[StageFolder] = ()) -> Ownership:
        """The ownership of a run folder, as it is now; `stages` have the records of its jobs."""
        identity = read_identity(folder)
        roots = {folder.root, Path(os.path.realpath(folder.root))}
        if identity.owns_jobs and (identity.place == "here" or not os.path.exists(identity.made_at)):
            roots.add(identity.made_at)
        ids = {_digest_of_path(root) for root in roots}
        if identity.id and identity.owns_jobs:
            ids.add(identity.id)
        owner = Ownership(identity=identity, ids=frozenset(ids), roots=tuple(sorted(roots)))
        clusters = {record.cluster for record in owner.records(stages).values() if record.cluster}
        return replace(owner, clusters=frozenset(clusters))

    def stage_of(self, task: Task) -> str | None:
        """The stage of one of the run's tasks; None if the task is not the run's."""
        found = COMMENT.search(task.comment)
        if found is not None:
            return found["stage"] if found["run"] in self.ids else None
        if task.cluster and self.clusters and task.cluster not in self.clusters:
            return None
        return self._stage_of_output(task)

    def records(self, stages: Iterable[StageFolder]) -> dict[str, JobRecord]:
        """The records of jobs by stage, without those that came with a copy from another run."""
        found = {stage.name: read_job_record(stage) for stage in stages}
        return {stage: record for stage, record in found.items() if record is not None and self._is_own(record)}

    def _is_own(self, record: JobRecord) -> bool:
        comment = COMMENT.search(record.comment)
        id_ = record.run or (comment["run"] if comment else "")
        return id_ in self.ids or (not id_ and self.identity.owns_jobs)

    def is_intruder(self, task: Task) -> bool:
        """Whether a task of another run works in this folder, as after its run folder was removed or replaced."""
        found = COMMENT.search(task.comment)
        return found is not None and found["run"] not in self.ids and self._stage_of_output(task) is not None

    def may_be(self, task: Task, *, stage: str) -> bool:
        """Whether a task of the accounting, which knows no comment, has the name of the stage's jobs."""
        return task.called in {"", *(f"{root.name}.{stage}" for root in self.roots)}

    def _stage_of_output(self, task: Task) -> str | None:
        """The stage whose jobs have this name and output."""
        name, _, stage = task.called.rpartition(".")
        for root in self.roots:
            logs = RunFolder(root).stage(stage).submitit_logs
            if stage and name == root.name and Path(task.output).is_relative_to(logs):
                return stage
        return None


def _digest_of_path(root: Path) -> str:
    return digest(str(root))[:12]
