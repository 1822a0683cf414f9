"""What the end of a task in Slurm means for its rank, in words."""

from __future__ import annotations

from typing import Literal

from slurm.submission.job_script import SETUP
from slurm.submission.queue import Task

State = Literal["done", "running", "queued", "held", "stopped", "failed", "lost", "unknown"]

ENDS: dict[str, tuple[State, str]] = {
    "COMPLETED": ("done", ""),
    "OUT_OF_MEMORY": ("failed", "out of memory; raise {resources}.memory_gb in the cluster file"),
    "TIMEOUT": ("failed", "out of time before its work was saved; raise {resources}.minutes in the cluster file"),
    "CANCELLED": ("stopped", "canceled"),
    "NODE_FAIL": ("lost", "its node {node} failed"),
    "BOOT_FAIL": ("lost", "its node {node} did not start"),
    "PREEMPTED": ("lost", "preempted and not requeued"),
    "DEADLINE": ("lost", "its deadline passed"),
}


# Exit codes of a rank that could not record its end.
EXITS: dict[int, tuple[State, str]] = {
    74: (
        "failed",
        "a file could not be read or written: is the disk full, or a quota used up? see its log; free space, then "
        "run again",
    ),
    SETUP: ("failed", "a line of `setup` in the cluster file failed; its text is in the output of the job"),
    75: ("stopped", "was asked to stop, its work is saved"),
}


def why_ended(task: Task, *, distributed: bool) -> tuple[State, str]:
    """State and reason of a rank that recorded no end, by how its task ended."""
    resources = "train" if distributed else "array"
    if task.state in ENDS:
        state, reason = ENDS[task.state]
        return state, reason.format(resources=resources, node=task.node)
    if task.exit in EXITS and not task.signal:
        return EXITS[task.exit]
    if task.signal == 9 or task.exit == 137:  # SIGKILL, directly or as a shell's exit code
        return "lost", f"killed (out of memory? then raise {resources}.memory_gb in the cluster file)"
    return "lost", f"ended and recorded no reason (Slurm: {task.state}, exit {task.exit}, signal {task.signal})"


def duration(seconds: float) -> str:
    """A length of time in the unit that suits it, e.g. "5 min"."""
    for unit, length in (("days", 86400.0), ("h", 3600.0), ("min", 60.0)):
        if seconds >= 2 * length:
            return f"{seconds / length:.0f} {unit}"
    return f"{seconds:.0f} s"
