"""Heartbeats: what each rank is doing, in one small JSON file per rank, for status and progress bars."""

from __future__ import annotations

import fcntl
import os
import socket
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

from slurm.files import publish_json, read_json
from slurm.run_folder import StageFolder
from slurm.stop import StopFlag

SECONDS_BETWEEN_BEATS = 1.0
SECONDS_BETWEEN_TRIES = 0.1  # to get a lock that another process still holds


class Beat:
    """One rank's heartbeat. States: running, done, stopped, failed."""

    def __init__(self, stage: StageFolder, rank: int, *, worker: dict[str, Any]) -> None:
        self._path = stage.beat(rank)
        self._value: dict[str, Any] = {"rank": rank, "started": time.time(), "images": 0, **worker}
        self._next = 0.0

    def update(self, *, state: str = "running", **values: Any) -> None:
        """Merge `values` in and write at most once a second; a change of state is always written."""
        now = time.monotonic()
        self._value.update(values)
        if values.get("images") and "since" not in self._value:
            # Where the rate counts from: start-up, and what an earlier attempt did, are left out.
            self._value["since"] = {"images": values["images"], "time": time.time()}
        if now < self._next and state == self._value.get("state"):
            return
        self._next = now + SECONDS_BETWEEN_BEATS
        self._value.update(state=state, time=time.time())
        publish_json(self._path, self._value, replace=True)


def read_beats(stage: StageFolder) -> list[dict[str, Any]]:
    """All heartbeats of a stage, by rank; files that do not parse are left out."""
    try:
        names = sorted(name for name in os.listdir(stage.beats) if name.endswith(".json") and not name.startswith("."))
    except OSError:
        return []
    values = [read_json(stage.beats / name) for name in names]
    return [value for value in values if isinstance(value, dict)]


def this_worker() -> dict[str, Any]:
    """Where this process runs, and in which attempt of which job."""
    return {
        "host": os.environ.get("SLURMD_NODENAME") or socket.gethostname(),
        "pid": os.getpid(),
        "job": os.environ.get("SLURM_JOB_ID") or os.environ.get("SUBMITIT_LOCAL_JOB_ID"),
        "restarts": int(os.environ.get("SLURM_RESTART_COUNT") or 0),
    }


def claim(stage: StageFolder, rank: int, *, stop: StopFlag | None) -> AbstractContextManager[None]:
    """Hold the rank; waits while an older attempt of the same rank is still saving its work."""
    return locked(stage.claim(rank), stop=stop)


@contextmanager
def locked(path: Path, *, stop: StopFlag | None) -> Iterator[None]:
    """Hold the lock file `path` among the processes of a run.

    Advisory: correctness rests on whole files with equal bytes. File systems without locks lose only the waiting.

    Raises:
        Stopped: this process was asked to leave while it waited.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        while not _locked(handle):
            if stop is not None:
                stop.check()
            time.sleep(SECONDS_BETWEEN_TRIES)
        yield
    finally:
        os.close(handle)


def _locked(handle: int) -> bool:
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        return True  # no locks here
    return True
