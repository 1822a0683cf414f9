"""A stopped Slurm job requeues itself once all of its ranks have saved their work."""

from __future__ import annotations

import logging
import os
import re
import signal
import time
from collections.abc import Callable

from slurm.ranks.heartbeats import Requeue, read_heartbeat
from slurm.ranks.stop import SIGNALS, StopFlag
from slurm.ranks.worker import slurm_job, this_worker
from slurm.run_folder import StageFolder
from slurm.submission.queue import call

SECONDS_TO_SAVE = 120.0  # for the other ranks of the job

SECONDS_UNTIL_SLURM_ENDS_JOB = 20.0  # from the loss of a rank to the end of the job, if Slurm noticed the loss

SECONDS_FOR_SLURM = 20.0  # for one answer; twice the time after which Slurm's own commands give up

SECONDS_OF_SILENCE = 600.0  # to repeat a request without an answer: a silent controller ends no job, either

KILL_WAIT = 30.0  # seconds from SIGTERM to SIGKILL, Slurm's default; a request that is refused is repeated for less

SECONDS_BEFORE_KILL = 10.0

SECONDS_BETWEEN_TRIES = (1.0, 10.0)  # the first and the longest pause; each is twice the one before

SECONDS_TO_BE_ENDED = 60.0  # from an accepted requeue to the end of the job's processes

# What Slurm says when it did not get to the request: sockets, a controller that starts, a backup that takes over.
SILENCE = re.compile(
    r"did not answer|contact slurm controller|timed out|socket|connect|communicat|standby|zero bytes", re.IGNORECASE
)

# What no repetition changes.
FORBIDDEN = re.compile(r"disabled|forbid|permission|denied|invalid job|no scontrol", re.IGNORECASE)

Tell = Callable[[str, Requeue | None], None]  # the problem and its state; "" and None once there is none

log = logging.getLogger(__name__)


def requeue_once_saved(stage: StageFolder, ranks: range, *, tell: Tell) -> None:
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
        requeue_this_job(tell=tell)
    else:
        _wait_to_be_ended(stage, ranks.start)


def _wait_to_be_ended(stage: StageFolder, first: int) -> None:
    """Wait for Slurm's signal, as long as the process of the `first` rank may still get the job requeued."""
    signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
    deadline = time.monotonic() + SECONDS_OF_SILENCE + SECONDS_TO_BE_ENDED
    while time.monotonic() < deadline and signal.sigtimedwait(SIGNALS, 2.0) is None:
        heartbeat = read_heartbeat(stage, first)
        if heartbeat is not None and heartbeat.requeue == "refused":
            return


def requeue_without_peer(stop: StopFlag, *, tell: Tell) -> bool:
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
    return requeue_this_job(tell=tell)


def peer_is_lost(error: Exception) -> bool:
    """Whether an error of a process group (gloo, NCCL) means that another rank is gone."""
    return type(error).__name__ in {"DistBackendError", "DistNetworkError", "DistStoreError"} or "gloo" in str(error)


def _may_be_running(stage: StageFolder, rank: int) -> bool:
    """Whether a rank of this attempt is running, or has not written its first heartbeat yet."""
    heartbeat, here = read_heartbeat(stage, rank), this_worker(rank)
    if heartbeat is None or (heartbeat.worker.job, heartbeat.worker.restarts) != (here.job, here.restarts):
        return True
    return heartbeat.state == "running"


def requeue_this_job(*, tell: Tell) -> bool:
    """Ask Slurm to run this job again under the same id, and again while Slurm is silent; returns whether it will."""
    job = slurm_job()
    if job is None:
        return False
    began, pause = time.monotonic(), SECONDS_BETWEEN_TRIES[0]
    patience: float | None = None
    while problem := _problem_with_requeue(job):
        silent = SILENCE.search(problem) is not None
        if patience is None and not silent:
            patience = 0.0 if FORBIDDEN.search(problem) else _kill_wait() - SECONDS_BEFORE_KILL
        if time.monotonic() - began + pause > (SECONDS_OF_SILENCE if silent or patience is None else patience):
            log.error("job %s: requeue refused: %s; rerun the same command to resume", job, problem)
            tell(problem, "refused")
            return False
        log.warning("job %s: not requeued yet: %s", job, problem)
        tell(problem, "waiting")
        time.sleep(pause)
        pause = min(2 * pause, SECONDS_BETWEEN_TRIES[1])
    tell("", None)
    if problem is None:
        return False
    log.info("requeued")
    return True


def _problem_with_requeue(job: str) -> str | None:
    """Ask once. Returns "" if the job is requeued, None if it must not be, else the problem."""
    text, problem = call("scontrol", "show", "job", job, seconds=SECONDS_FOR_SLURM)
    if problem is not None:
        return problem
    shown, restarts = text.split(), os.environ.get("SLURM_RESTART_COUNT") or "0"
    if "JobState=RUNNING" not in shown:  # a canceled job must stay canceled
        return None
    if f"Restarts={restarts}" not in shown:
        log.warning("job %s was already restarted; this attempt, after %s restarts, is an old one", job, restarts)
        return None
    if "Requeue=0" in shown:
        return "Slurm forbids it for this job (Requeue=0)"
    return call("scontrol", "requeue", job, seconds=SECONDS_FOR_SLURM)[1] or ""


def _kill_wait() -> float:
    """Seconds that Slurm leaves a job between SIGTERM and SIGKILL."""
    shown, _ = call("scontrol", "show", "config", seconds=SECONDS_FOR_SLURM)
    found = re.search(r"^KillWait\s*=\s*([0-9]+)", shown, re.MULTILINE)
    return float(found[1]) if found else KILL_WAIT
