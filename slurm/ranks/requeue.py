"""A stopped Slurm job requeues itself once all of its ranks have saved their work."""

from __future__ import annotations

import logging
import os
import signal
import time

from slurm.ranks.heartbeats import read_heartbeat
from slurm.ranks.stop import SIGNALS, StopFlag
from slurm.ranks.worker import slurm_job, this_worker
from slurm.run_folder import StageFolder
from slurm.submission.queue import call

SECONDS_TO_SAVE = 120.0  # for the other ranks of the job

SECONDS_UNTIL_SLURM_ENDS_JOB = 20.0  # from the loss of a rank to the end of the job, if Slurm noticed the loss

SECONDS_FOR_SLURM = 60.0  # long, because the request is not repeated

SECONDS_TO_BE_ENDED = 60.0  # from an accepted requeue to the end of the job's processes

log = logging.getLogger(__name__)


def requeue_once_saved(stage: StageFolder, ranks: range) -> None:
    """Requeue this job once none of its `ranks` is running any more; the job's first process does it for all.

    The other processes wait until Slurm ends them: a process that exits by itself could end the job before it is
    requeued. Outside of Slurm this does nothing. It returns if the job is not requeued: because it was canceled, Slurm
    refused, or this is an old attempt of a job that was already restarted.
    """
    if "SLURM_JOB_ID" not in os.environ:
        return
    deadline = time.monotonic() + SECONDS_TO_SAVE
    while any(_may_be_running(stage, rank) for rank in ranks) and time.monotonic() < deadline:
        time.sleep(0.2)
    if os.environ.get("SLURM_PROCID", "0") == "0":
        requeue_this_job()
    else:
        signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
        signal.sigtimedwait(SIGNALS, SECONDS_TO_BE_ENDED)


def requeue_without_peer(stop: StopFlag) -> bool:
    """Requeue this job after ranks on another node were lost; returns whether it will run again.

    If a rank exits while its node is up, Slurm ends the whole job at once, and it must not be requeued: the same error
    would happen again. Only if Slurm does not end the job has the node itself failed.
    """
    if "SLURM_JOB_ID" not in os.environ:
        return False
    deadline = time.monotonic() + SECONDS_UNTIL_SLURM_ENDS_JOB
    while time.monotonic() < deadline:
        if stop.due():
            return False
        time.sleep(0.2)
    return requeue_this_job()


def peer_is_lost(error: Exception) -> bool:
    """Whether an error of a process group (gloo, NCCL) means that another rank is gone."""
    return type(error).__name__ in {"DistBackendError", "DistNetworkError", "DistStoreError"} or "gloo" in str(error)


def _may_be_running(stage: StageFolder, rank: int) -> bool:
    """Whether a rank of this attempt is running, or has not written its first heartbeat yet."""
    heartbeat, here = read_heartbeat(stage, rank), this_worker(rank)
    if heartbeat is None or (heartbeat.worker.job, heartbeat.worker.restarts) != (here.job, here.restarts):
        return True
    return heartbeat.state == "running"


def requeue_this_job() -> bool:
    """Ask Slurm to run this job again under the same id; returns whether it will."""
    job, restarts = slurm_job(), os.environ.get("SLURM_RESTART_COUNT") or "0"
    if job is None:
        return False
    shown = call("scontrol", "show", "job", job, seconds=SECONDS_FOR_SLURM)[0].split()
    if "JobState=RUNNING" not in shown:  # a canceled job must stay canceled
        return False
    if f"Restarts={restarts}" not in shown:
        log.warning("job %s was already restarted; this attempt, after %s restarts, is an old one", job, restarts)
        return False
    _, problem = call("scontrol", "requeue", job, seconds=SECONDS_FOR_SLURM)
    if problem is not None:
        log.error("job %s: requeue refused: %s; rerun the same command to resume", job, problem)
        return False
    log.info("requeued")
    return True
