"""A Slurm job that was asked to stop asks for another turn, once the work of all its ranks is saved."""

from __future__ import annotations

import logging
import os
import signal
import time

from slurm.heartbeats import read_beat, slurm_job, this_worker
from slurm.queue import call
from slurm.run_folder import StageFolder
from slurm.stop import SIGNALS, StopFlag

SECONDS_TO_SAVE = 120.0  # the other ranks of the job get this long

SECONDS_TO_JUDGE = 20.0  # from the loss of a rank to the end of the job, if Slurm knows of the loss

SECONDS_FOR_SLURM = 60.0  # nobody asks again: better late than never

SECONDS_TO_BE_ENDED = 60.0  # between the controller's yes and the end of the job's processes

log = logging.getLogger(__name__)


def requeue_once_saved(stage: StageFolder, ranks: range) -> None:
    """Put this job back into the queue once none of its `ranks` is at work any more; its first process asks for all.

    The others wait to be ended by it: one that left with an exit code of its own could end the job before. Nothing
    happens outside of Slurm. Returns where there will be no other turn: canceled, refused, or this attempt is an old
    one that was given up while it still ran.
    """
    if "SLURM_JOB_ID" not in os.environ:
        return
    deadline = time.monotonic() + SECONDS_TO_SAVE
    while any(_is_at_work(stage, rank) for rank in ranks) and time.monotonic() < deadline:
        time.sleep(0.2)
    if os.environ.get("SLURM_PROCID", "0") == "0":
        requeue_this_job()
    else:
        signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
        signal.sigtimedwait(SIGNALS, SECONDS_TO_BE_ENDED)


def requeue_without_peer(stop: StopFlag) -> bool:
    """Ask for another turn after ranks of another node fell silent; returns whether there will be one.

    A rank that died while its node lives makes Slurm end the whole job at once, and so it shall: the same would happen
    again. Only where that does not come, the node itself is gone.
    """
    if "SLURM_JOB_ID" not in os.environ:
        return False
    deadline = time.monotonic() + SECONDS_TO_JUDGE
    while time.monotonic() < deadline:
        if stop.due():
            return False
        time.sleep(0.2)
    return requeue_this_job()


def peer_is_lost(error: Exception) -> bool:
    """Whether an error of a process group (gloo, NCCL) says that another rank is gone."""
    return type(error).__name__ in {"DistBackendError", "DistNetworkError"} or "gloo" in str(error)


def _is_at_work(stage: StageFolder, rank: int) -> bool:
    """Whether a rank of this attempt still works, or has not even told yet that it does."""
    beat, here = read_beat(stage, rank), this_worker()
    if beat is None or (beat.get("job"), beat.get("restarts")) != (here["job"], here["restarts"]):
        return True
    return bool(beat.get("state") == "running")


def requeue_this_job() -> bool:
    """Ask Slurm to run this job again under the same id; returns whether it will."""
    job, restarts = slurm_job(), os.environ.get("SLURM_RESTART_COUNT") or "0"
    if job is None:
        return False
    shown = call("scontrol", "show", "job", job, seconds=SECONDS_FOR_SLURM)[0].split()
    if "JobState=RUNNING" not in shown:  # canceled: it must stay so
        return False
    if f"Restarts={restarts}" not in shown:
        log.warning("job %s runs again already; this attempt, after %s restarts, is an old one", job, restarts)
        return False
    _, problem = call("scontrol", "requeue", job, seconds=SECONDS_FOR_SLURM)
    if problem is not None:
        log.error("job %s: requeue refused: %s; run the same command again to go on", job, problem)
        return False
    log.info("requeued")
    return True
