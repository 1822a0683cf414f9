"""Submitting a run to Slurm: one chain of jobs, linked by dependencies. A dry run renders the same job scripts."""

from __future__ import annotations

import logging
import shutil
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from jobs.frame.run import Run
from jobs.frame.stage import Stage
from jobs.frame.unit import Unit
from jobs.launch.code import ENTRY, PROJECT
from jobs.launch.living import Living, ask_living, owner_of
from jobs.launch.stage_work import StageWork, dependency, unfinished_stages, write_plan
from slurm.errors import RunError
from slurm.partial_files import sweep
from slurm.ranks.heartbeats import read_heartbeat
from slurm.run_identity import read_identity
from slurm.submission.job_record import JobRecord, write_job_record
from slurm.submission.job_script import script, slurm_parameters
from slurm.submission.ownership import Ownership, run_comment
from slurm.submission.payload import Payload, payloads
from slurm.submission.slurm_job import SlurmJob
from slurm.submission.snapshot import code_digest, snapshot
from slurm.submission.submit import Site, submit_slurm

log = logging.getLogger(__name__)


def require_slurm() -> None:
    """Check that jobs can be submitted from here.

    Raises:
        RunError: there is no Slurm on this machine.
    """
    if shutil.which("sbatch") is None:
        raise RunError(
            "executor: got slurm, but there is no sbatch on this machine; submit from a login node, or use local.yaml"
        )


def refuse_beside_jobs(run: Run) -> None:
    """Check, before a launch on this machine, that no job of an earlier launch on Slurm is left.

    Raises:
        RunError: one is queued or running, or the queue cannot be read.
    """
    records = [path for name in run.stages if (path := run.stage_folder(name).job_record).exists()]
    if not (records and shutil.which("squeue")):
        return
    try:
        ids = " ".join(ask_living(run).ids)
    except RunError as error:
        files = " ".join(str(path) for path in records)
        raise RunError(f"{error}; if the cluster that this run was submitted to is gone: rm {files}") from None
    if ids:
        raise RunError(
            f"{run.folder.root}: jobs of an earlier launch are in the queue ({ids}); they resume by themselves; "
            f"to work on this machine, end them first with `cemiface cancel` or `scancel {ids}`"
        )


def refuse_other_cluster(run: Run, living: Living, *, site: Site) -> None:
    """Check that no unfinished stage was submitted to another cluster, where its jobs may still be.

    Raises:
        RunError: one was.
    """
    elsewhere = {
        name: record.cluster
        for name, record in living.records.items()
        if site.cluster
        and record.cluster not in {"", site.cluster}
        and run.ledger.why_not_finished(run.stages[name]) is not None
    }
    if elsewhere:
        files = " ".join(str(run.stage_folder(name).job_record) for name in elsewhere)
        cluster = next(iter(elsewhere.values()))
        raise RunError(
            f"{run.folder.root}: was submitted to the cluster {cluster}, where its jobs may be at work; this is "
            f"{site.cluster}; run there, or if its jobs have ended: rm {files}"
        )


def submit(run: Run, stages: Sequence[Stage[Unit]], *, living: Living, site: Site) -> dict[str, list[str]]:
    """Submit to Slurm what has no job: unfinished stages, or their ranks; returns the new job ids by stage."""
    sweep(run.folder.root, all_hosts=not living.ids)  # without jobs in the queue, no other host is writing here
    code = snapshot(PROJECT, folder=run.folder.code)
    submission = _Submission(run=run, living=living, site=site, code=code, owner=owner_of(run))
    for work in unfinished_stages(run, stages, largest=site.largest_array, living=living):
        submission.submit(work)
    if not submission.ids:
        ids = " ".join(living.ids)
        log.info("%s: nothing to submit: %s", run.folder.root, f"its jobs are in the queue ({ids})" if ids else "done")
    return submission.ids


@dataclass(kw_only=True)
class _Submission:
    """The jobs that a launch submits, one after the other."""

    run: Run
    living: Living
    site: Site
    code: Path
    owner: Ownership
    ids: dict[str, list[str]] = field(default_factory=dict)

    def submit(self, work: StageWork) -> None:
        """Submit the jobs of a stage, or of those of its ranks that have none."""
        run, name = self.run, work.stage.name
        if work.record is None:
            write_plan(run, work.stage, undone=work.undone)
        else:
            self._forget_attempts(work)
        run.stage_folder(name).logs.mkdir(parents=True, exist_ok=True)
        self.ids[name] = []
        for number in range(len(work.jobs)):
            self.ids[name].append(self._submit_job(work, number))
            self._record(work)
        ranks = sum(job.ranks for job in work.jobs if job.kind != "canary")
        log.info("%s: submitted as job %s, %d of %d rank(s)", name, " ".join(self.ids[name]), ranks, work.ranks)

    def _forget_attempts(self, work: StageWork) -> None:
        """Remove heartbeats of ranks that are submitted again: a user's launch begins their count of attempts anew."""
        folder = self.run.stage_folder(work.stage.name)
        for rank in (job.first_rank + number for job in work.jobs for number in range(job.ranks)):
            heartbeat = read_heartbeat(folder, rank)
            if heartbeat is not None and heartbeat.state != "done":
                folder.heartbeat(rank).unlink(missing_ok=True)

    def _submit_job(self, work: StageWork, number: int) -> str:
        run, name, job = self.run, work.stage.name, work.jobs[number]
        payload = Payload(
            entry=ENTRY,
            run=str(run.folder.root),
            stage=name,
            rank=0,
            ranks=work.ranks,
            id=self.owner.identity.id,
            slurm=True,
        )
        terms = {known: [*self.living.terms(known), *self.ids.get(known, ())] for known in (*work.needs, *work.after)}
        waits = dependency(run, work, number, terms=terms, ids=self.ids[name])
        return submit_slurm(
            payloads(job, payload=payload),
            stage=run.stage_folder(name),
            parameters=_parameters(run, work, job, id_=self.owner.identity.id, dependency=waits),
            code=self.code,
            owner=self.owner,
            known=[*self.ids[name], *(task.job for task in self.living.tasks.get(name, ()))],
        )

    def _record(self, work: StageWork) -> None:
        """Write the record after every job, so that a launch that is cut off leaves no unknown job."""
        run, name, id_ = self.run, work.stage.name, self.owner.identity.id
        new = tuple(replace(job, job=one) for job, one in zip(work.jobs, self.ids[name], strict=False))
        record = JobRecord(
            ranks=work.ranks,
            submitted=work.record.submitted if work.record else time.time(),
            jobs=(*(work.record.jobs if work.record else ()), *new),
            comment=run_comment(id_, name),
            code=self.code.name,
            run=id_,
            path=str(run.folder.root),
            cluster=self.site.cluster,
        )
        write_job_record(run.stage_folder(name), record)


def _parameters(run: Run, work: StageWork, job: SlurmJob, *, id_: str, dependency: str) -> dict[str, Any]:
    return slurm_parameters(
        job,
        stage=run.stage_folder(work.stage.name),
        cluster=run.cluster,
        comment=run_comment(id_, work.stage.name),
        dependency=dependency,
    )


def scripts(run: Run, stages: Sequence[Stage[Unit]]) -> Iterator[tuple[str, str]]:
    """Name and text of every job script, with names in place of the ids of jobs and of a new run; needs no Slurm."""
    code = run.folder.code / code_digest(PROJECT)
    identity = read_identity(run.folder)
    id_ = identity.id if identity.id and identity.owns_jobs else "<run>"
    ids: dict[str, list[str]] = {}
    for work in unfinished_stages(run, stages):
        names = [work.stage.name if len(work.jobs) == 1 else f"{work.stage.name}.{n}" for n in range(len(work.jobs))]
        ids[work.stage.name] = [f"<{name}>" for name in names]
        for number, (name, job) in enumerate(zip(names, work.jobs, strict=True)):
            waits = dependency(run, work, number, terms=ids, ids=ids[work.stage.name])
            parameters = _parameters(run, work, job, id_=id_, dependency=waits)
            stage = run.stage_folder(work.stage.name)
            yield name, script(stage=stage, parameters=parameters, tasks=job.tasks, code=code)
