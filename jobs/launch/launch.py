"""Run stages on this machine, or submit to Slurm what has no job there. Rerun the same command to resume."""

from __future__ import annotations

import fcntl
import logging
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from jobs.frame.errors import USER_ERRORS
from jobs.frame.experiment import fields_that_differ, save_cluster, save_run
from jobs.frame.run import Run
from jobs.frame.stage import Stage
from jobs.frame.unit import Unit
from jobs.launch.code import PROJECT
from jobs.launch.living import ask_living_once_ended
from jobs.launch.local import run_local
from jobs.launch.local_gpus import local_gpus
from jobs.launch.submit import refuse_beside_jobs, refuse_other_cluster, require_slurm, submit
from slurm.disk import disk_errors, tried_again
from slurm.errors import RunError
from slurm.files import publish_json
from slurm.partial_files import sweep
from slurm.provenance import provenance
from slurm.run_identity import claim_identity
from slurm.submission.submit import ask_site

log = logging.getLogger(__name__)


def launch(run: Run, stages: Sequence[Stage[Unit]]) -> None:
    """Run the stages on this machine, or submit them to Slurm, depending on the cluster file.

    Ranks read the config from the run folder, so it is written only while no ranks of another launch can start. While
    jobs are in the queue, only what has no job is submitted, with the same config.

    Raises:
        RunError: a stage failed, or jobs could not be submitted or are queued with another config.
        ConfigError, DataError, ModelError: what a stage cannot work with.
    """
    run.folder.create()
    with _launch_lock(run):
        if run.cluster.executor == "slurm":
            _launch_on_slurm(run, stages)
        else:
            refuse_beside_jobs(run)
            _check(run, stages)
            claim_identity(run.folder)
            save_run(run)
            publish_json(run.folder.provenance, provenance(PROJECT), replace=True)
            run_local(run, stages)


def _launch_on_slurm(run: Run, stages: Sequence[Stage[Unit]]) -> None:
    require_slurm()
    living, site = ask_living_once_ended(run), ask_site()
    refuse_other_cluster(run, living, site=site)
    if living.ids:
        _refuse_other_config(run, ids=living.ids)
    _check(run, stages)
    claim_identity(run.folder)
    if living.ids:
        save_cluster(run)
    else:
        save_run(run)
    publish_json(run.folder.provenance, provenance(PROJECT), replace=True)
    submit(run, stages, living=living, site=site)


def _check(run: Run, stages: Sequence[Stage[Unit]]) -> None:
    for refusal in refusals(run, stages):
        raise refusal
    sweep(run.folder.root)


def _refuse_other_config(run: Run, *, ids: Sequence[str]) -> None:
    """Check that jobs in the queue read the config of this launch.

    Raises:
        RunError: a field differs.
    """
    different = fields_that_differ(run)
    if different:
        names, jobs = ", ".join(different[:3]), " ".join(ids)
        raise RunError(
            f"{run.folder.root}: jobs of an earlier launch are in the queue ({jobs}), with another config ({names}); "
            f"launch with that config, or end them first with `cemiface cancel` or `scancel {jobs}`"
        )


def refusals(run: Run, stages: Sequence[Stage[Unit]]) -> Iterator[Exception]:
    """What keeps unfinished stages from doing their work, as far as it is known before any starts; each once."""
    told: set[str] = set()
    for stage in stages:
        try:
            if _has_work_before(run, stage):
                run.ledger.plan(stage.name)
                stage.files(run)
                stage.check_launch(run)
                if run.cluster.executor == "local":
                    local_gpus(run, stage)
        except USER_ERRORS as error:
            if str(error) not in told:
                told.add(str(error))
                yield error


def _has_work_before(run: Run, stage: Stage[Unit]) -> bool:
    """Whether the stage, or one that it reads directly or through others, is not finished."""
    if run.ledger.why_not_summarized(stage) is not None:
        return True
    return any(_has_work_before(run, run.stages[name]) for name in stage.needs(run))


@contextmanager
def _launch_lock(run: Run) -> Iterator[None]:
    """Hold the lock of the run; waits until another launch of the same run ends."""
    with disk_errors(run.folder.lock):
        handle = tried_again(lambda: os.open(run.folder.lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.pread(handle, 32, 0).decode(errors="replace").strip()
            log.info("%s: process %s is working on this run; waiting for it to end", run.folder.root, holder)
            fcntl.flock(handle, fcntl.LOCK_EX)
        except OSError as error:
            root, reason = run.folder.root, error.strerror
            log.warning("%s: this file system has no locks (%s); do not launch this run twice at once", root, reason)
        with disk_errors(run.folder.lock):
            os.ftruncate(handle, 0)
            os.pwrite(handle, f"{os.getpid()}\n".encode(), 0)
        yield
    finally:
        os.close(handle)
