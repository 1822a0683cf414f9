"""Which process runs a rank: host, process id, and which attempt of which job it is."""

from __future__ import annotations

import os
import socket
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import TypeAdapter, ValidationError


@dataclass(frozen=True, kw_only=True)
class Worker:
    """The process of one rank. Heartbeats and markers store these fields as JSON under the same names."""

    rank: int
    host: str
    pid: int
    job: str | None = None  # id as Slurm's commands take it, or the id of a local job
    restarts: int = 0  # of the job, counted by Slurm
    code: str | None = None  # digest of the code snapshot; None where there is no snapshot

    @property
    def process(self) -> tuple[int, str, int]:
        """What identifies this process among those of all attempts: rank, host and process id."""
        return self.rank, self.host, self.pid

    @staticmethod
    def from_json(value: Any) -> Worker | None:
        """The worker in a JSON value; None if fields are missing or wrong. Unknown fields are ignored."""
        try:
            return _WORKER.validate_python(value)
        except ValidationError:
            return None


_WORKER = TypeAdapter(Worker)

OF_A_JOB = ("SLURM_", "SLURMD_", "SUBMITIT_")  # variables that say which job and which of its processes this is

OF_THE_SITE = {"SLURM_CONF", "SLURM_CONF_SERVER", "SLURM_CLUSTERS", "SLURM_JWT"}  # how Slurm's commands reach it


def this_worker(rank: int) -> Worker:
    """This process as rank `rank`. Slurm's variables are those of a job of ours, see `leave_allocation`."""
    return Worker(
        rank=rank,
        host=this_host(),
        pid=os.getpid(),
        job=slurm_job() or os.environ.get("SUBMITIT_LOCAL_JOB_ID"),
        restarts=int(os.environ.get("SLURM_RESTART_COUNT") or 0),
        code=os.environ.get("CEMIFACE_CODE"),
    )


def leave_allocation(*, keep: Sequence[str] = ()) -> None:
    """Forget the job that this process happens to run in: it is not one of ours.

    Within an interactive allocation or a notebook's job, its variables would make a local rank take the number of
    another one, all attempts the same one, and the user's own job the one to be requeued. Variables that start with one
    of `keep` stay.
    """
    for name in [name for name in os.environ if name.startswith(OF_A_JOB) and name not in OF_THE_SITE]:
        if not name.startswith(tuple(keep)):
            del os.environ[name]


def this_host() -> str:
    """The name of this node, Slurm's where there is one."""
    return os.environ.get("SLURMD_NODENAME") or socket.gethostname()


def slurm_job() -> str | None:
    """This job's id as Slurm's commands take it. An array element needs `<array>_<task>`.

    The plain id of an array's last task would mean the whole array.
    """
    array, task = os.environ.get("SLURM_ARRAY_JOB_ID"), os.environ.get("SLURM_ARRAY_TASK_ID")
    return f"{array}_{task}" if array and task else os.environ.get("SLURM_JOB_ID")
