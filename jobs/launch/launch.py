"""Run stages on this machine, or submit them to Slurm. Rerun the same command to resume."""

from __future__ import annotations

import fcntl
import logging
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from jobs.frame.experiment import save_run
from jobs.frame.run import Run
from jobs.frame.stage import Stage
from jobs.frame.unit import Unit
from jobs.launch.code import PROJECT
from jobs.launch.local import run_local
from jobs.launch.local_gpus import local_gpus
from jobs.launch.submit import refuse_second_submission, submit
from slurm.files import publish_json
from slurm.partial_files import sweep
from slurm.provenance import provenance

log = logging.getLogger(__name__)


def launch(run: Run, stages: Sequence[Stage[Unit]]) -> None:
    """Run the stages on this machine, or submit them to Slurm, depending on the cluster file.

    Ranks read the config from the run folder, so it is written only while no ranks of another launch can start.

    Raises:
        RunError: a stage failed, or jobs could not be submitted or are queued already.
    """
    run.folder.create()
    with _launch_lock(run):
        refuse_second_submission(run)
        for stage in stages:
            if _has_work_before(run, stage):
                stage.check_launch(run)
                if run.cluster.executor == "local":
                    local_gpus(run, stage)
        sweep(run.folder.root)
        save_run(run)
        publish_json(run.folder.provenance, provenance(PROJECT), replace=True)
        if run.cluster.executor == "slurm":
            submit(run, stages)
        else:
            run_local(run, stages)


def _has_work_before(run: Run, stage: Stage[Unit]) -> bool:
    """Whether the stage, or one that it reads directly or through others, is not finished."""
    if run.ledger.why_not_summarized(stage) is not None:
        return True
    return any(_has_work_before(run, run.stages[name]) for name in stage.needs(run))


@contextmanager
def _launch_lock(run: Run) -> Iterator[None]:
    """Hold the lock of the run; waits until another launch of the same run ends."""
    handle = os.open(run.folder.lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
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
        os.ftruncate(handle, 0)
        os.pwrite(handle, f"{os.getpid()}\n".encode(), 0)
        yield
    finally:
        os.close(handle)
