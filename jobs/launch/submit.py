"""Submitting a run to Slurm: one chain of jobs, linked by dependencies. A dry run renders the same job scripts."""

from __future__ import annotations

import logging
import shutil
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from jobs.frame.run import Run
from jobs.frame.stage import Stage
from jobs.frame.unit import Unit
from jobs.launch.code import ENTRY, PROJECT
from jobs.launch.stage_work import StageWork, dependency, unfinished_stages, write_plan
from slurm.errors import RunError
from slurm.partial_files import sweep
from slurm.submission.job_record import JobRecord, write_job_record
from slurm.submission.job_script import script, slurm_parameters
from slurm.submission.payload import Payload, payloads
from slurm.submission.slurm_job import SlurmJob
from slurm.submission.snapshot import code_digest, snapshot
from slurm.submission.submit import jobs_in_queue, largest_array, run_comment, submit_slurm

log = logging.getLogger(__name__)


def refuse_second_submission(run: Run) -> None:
    """Check that no job of an earlier launch is left: it would still read the config of that launch.

    Raises:
        RunError: one is queued or running, or there is no Slurm on this machine.
    """
    if run.cluster.executor == "slurm" and shutil.which("sbatch") is None:
        raise RunError(
            "executor: got slurm, but there is no sbatch on this machine; submit from a login node, or use local.yaml"
        )
    records = [path for name in run.stages if (path := run.stage_folder(name).job_record).exists()]
    if run.cluster.executor == "local" and not (records and shutil.which("squeue")):
        return
    try:
        ids = " ".join(jobs_in_queue(run_comment(run.folder.root)))
    except RunError as error:
        if run.cluster.executor == "slurm":
            raise
        files = " ".join(str(path) for path in records)
        raise RunError(f"{error}; if the cluster that this run was submitted to is gone: rm {files}") from None
    if ids:
        raise RunError(
            f"{run.folder.root}: jobs of an earlier launch are in the queue ({ids}); they resume by themselves; "
            f"to submit again, end them first with `cemiface cancel` or `scancel {ids}`"
        )


def submit(run: Run, stages: Sequence[Stage[Unit]]) -> dict[str, list[str]]:
    """Submit the unfinished stages to Slurm; returns the job ids by stage."""
    sweep(run.folder.root, all_hosts=True)  # no job of this run is in the queue, so no other host is writing here
    code = snapshot(PROJECT, folder=run.folder.code)
    ids: dict[str, list[str]] = {}
    for work in unfinished_stages(run, stages, largest=largest_array()):
        name = work.stage.name
        write_plan(run, work.stage, undone=work.undone)
        run.stage_folder(name).logs.mkdir(parents=True, exist_ok=True)
        ids[name] = []
        for number in range(len(work.jobs)):
            ids[name].append(_submit_job(run, work, number, ids=ids, code=code))
            _record(run, work, ids=ids[name], code=code)
        log.info("%s: submitted as job %s, %d rank(s)", name, " ".join(ids[name]), work.ranks)
    return ids


def _submit_job(run: Run, work: StageWork, number: int, *, ids: dict[str, list[str]], code: Path) -> str:
    name, job = work.stage.name, work.jobs[number]
    payload = Payload(entry=ENTRY, run=str(run.folder.root), stage=name, rank=0, ranks=work.ranks, slurm=True)
    return submit_slurm(
        payloads(job, payload=payload),
        stage=run.stage_folder(name),
        parameters=_parameters(run, work, job, dependency=dependency(run, work, number, ids=ids)),
        code=code,
        comment=run_comment(run.folder.root, name),
    )


def _record(run: Run, work: StageWork, *, ids: Sequence[str], code: Path) -> None:
    """Write the record after every job, so that a launch that is cut off leaves no unknown job."""
    jobs = tuple(replace(job, job=id_) for job, id_ in zip(work.jobs, ids, strict=False))
    comment = run_comment(run.folder.root, work.stage.name)
    record = JobRecord(ranks=work.ranks, submitted=time.time(), jobs=jobs, comment=comment, code=code.name)
    write_job_record(run.stage_folder(work.stage.name), record)


def _parameters(run: Run, work: StageWork, job: SlurmJob, *, dependency: str) -> dict[str, Any]:
    return slurm_parameters(
        job,
        stage=run.stage_folder(work.stage.name),
        cluster=run.cluster,
        comment=run_comment(run.folder.root, work.stage.name),
        dependency=dependency,
    )


def scripts(run: Run, stages: Sequence[Stage[Unit]]) -> Iterator[tuple[str, str]]:
    """Name and text of every job script, with job names in place of ids; needs no Slurm."""
    code = run.folder.code / code_digest(PROJECT)
    ids: dict[str, list[str]] = {}
    for work in unfinished_stages(run, stages):
        names = [work.stage.name if len(work.jobs) == 1 else f"{work.stage.name}.{n}" for n in range(len(work.jobs))]
        ids[work.stage.name] = [f"<{name}>" for name in names]
        for number, (name, job) in enumerate(zip(names, work.jobs, strict=True)):
            parameters = _parameters(run, work, job, dependency=dependency(run, work, number, ids=ids))
            stage = run.stage_folder(work.stage.name)
            yield name, script(stage=stage, parameters=parameters, tasks=job.tasks, code=code)
