"""A Slurm job that was asked to stop asks for another turn, once its work is saved."""

from __future__ import annotations

import logging
import os
import subprocess

MAX_REQUEUES = 50  # of one job; more means that it never gets far enough to save
log = logging.getLogger(__name__)


def requeue_this_job() -> bool:
    """Put this Slurm job back into the queue under the same id; returns whether it will run again.

    Not outside of Slurm, not after `scancel` (a canceled job must stay so), and only so often.
    """
    job = os.environ.get("SLURM_JOB_ID")
    if job is None:
        return False
    restarts = int(os.environ.get("SLURM_RESTART_COUNT") or 0)
    if restarts >= MAX_REQUEUES:
        log.error("job %s was requeued %d times already; run the same command again to go on", job, restarts)
        return False
    if "JobState=RUNNING" not in _scontrol("show", "job", job).stdout:
        return False
    done = _scontrol("requeue", job)
    if done.returncode != 0:
        log.error("job %s: requeue refused: %s; run the same command again to go on", job, done.stderr.strip())
    return done.returncode == 0


def _scontrol(*arguments: str) -> subprocess.CompletedProcess[str]:
    try:
        return subprocess.run(
            ["scontrol", *arguments],  # noqa: S607 (the site's scontrol)
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return subprocess.CompletedProcess(arguments, returncode=1, stdout="", stderr=str(error))
