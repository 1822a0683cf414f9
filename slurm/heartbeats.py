"""Heartbeats: what each rank is doing, in one small JSON file per rank, and how its earlier attempts ended."""

from __future__ import annotations

import fcntl
import os
import socket
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

from slurm.errors import RunError
from slurm.files import publish_json, read_json
from slurm.run_folder import StageFolder
from slurm.stop import StopFlag

SECONDS_BETWEEN_BEATS = 1.0

# So many attempts in a row may end this way without progress: preempted is nobody's fault, lost is suspicious.
MOST_FRUITLESS = {"stopped": 20, "lost": 3}

NODES_KEPT = 5

SECONDS_BETWEEN_TRIES = 0.1  # to get a lock that another process still holds


class Beat:
    """One rank's heartbeat. States: running, done, stopped, failed.

    It goes on from the last attempt's file: `attempts` counts all of them by how they ended, `fruitless` those in a
    row that got nothing durable done. `landmark` names the last durable thing, a finished unit or a checkpoint.
    """

    def __init__(
        self,
        stage: StageFolder,
        rank: int,
        *,
        worker: dict[str, Any],
        landmark: str | None = None,
        stop: StopFlag | None = None,
    ) -> None:
        self._path, self._stop = stage.beat(rank), stop
        self._next = 0.0
        self.superseded = False
        earlier = read_json(self._path)
        history = _history(earlier if isinstance(earlier, dict) else {}, landmark=landmark)
        self._value: dict[str, Any] = {"rank": rank, "started": time.time(), "images": 0, **worker, **history}

    def update(self, *, state: str = "running", **values: Any) -> None:
        """Merge `values` in and write at most once a second; a change of state is always written.

        A newer attempt of this rank ends this one: its node was given up while it still runs.
        """
        now = time.monotonic()
        self._value.update(values)
        if values.get("images") and "since" not in self._value:
            # Where the rate counts from: start-up, and what an earlier attempt did, are left out.
            self._value["since"] = {"images": values["images"], "time": time.time()}
        if now < self._next and state == self._value.get("state"):
            return
        self._next = now + SECONDS_BETWEEN_BEATS
        self._value.update(state=state, time=time.time())
        self.superseded = self.superseded or _is_newer(read_json(self._path), self._value)
        if not self.superseded:
            publish_json(self._path, self._value, replace=True)
        elif self._stop is not None:
            self._stop.ask("a newer attempt of this rank is at work")

    def refuse_to_spin(self) -> None:
        """Give up a rank that is started again and again and never gets anything done.

        Raises:
            RunError: too many attempts in a row ended the same way.
        """
        for cause, at_most in MOST_FRUITLESS.items():
            fruitless = self._value["fruitless"].get(cause, 0)
            if fruitless >= at_most:
                nodes = ", ".join(self._value["nodes"])
                raise RunError(
                    f"{fruitless} attempts in a row were {cause} before they got anything done (on {nodes}); see "
                    "`cemiface why`; `exclude:` in the cluster file keeps jobs off a bad node; then run again"
                )


def _history(earlier: dict[str, Any], *, landmark: str | None) -> dict[str, Any]:
    """What a new attempt takes over from the heartbeat of the last one."""
    attempts: dict[str, int] = dict(earlier.get("attempts") or {})
    fruitless: dict[str, int] = dict(earlier.get("fruitless") or {})
    nodes: list[str] = list(earlier.get("nodes") or [])
    reached = earlier.get("landmark") if landmark is None else landmark
    if reached != earlier.get("start_landmark"):
        fruitless, nodes = {}, []
    cause = {"running": "lost", "stopped": "stopped", "failed": "failed"}.get(str(earlier.get("state")))
    if cause:
        attempts[cause] = attempts.get(cause, 0) + 1
        if reached == earlier.get("start_landmark"):
            fruitless[cause] = fruitless.get(cause, 0) + 1
            nodes = [*nodes, str(earlier.get("host"))][-NODES_KEPT:]
    return {
        "attempts": attempts,
        "fruitless": fruitless,
        "nodes": nodes,
        "landmark": reached,
        "start_landmark": reached,
    }


def _is_newer(there: Any, ours: dict[str, Any]) -> bool:
    """Whether a heartbeat on disk is of a later attempt of the same job."""
    if not isinstance(there, dict) or there.get("job") != ours.get("job"):
        return False
    return bool(there.get("restarts", 0) > ours.get("restarts", 0))


def read_beats(stage: StageFolder) -> list[dict[str, Any]]:
    """All heartbeats of a stage, by rank; files that do not parse are left out."""
    try:
        names = sorted(name for name in os.listdir(stage.beats) if name.endswith(".json") and not name.startswith("."))
    except OSError:
        return []
    values = [read_json(stage.beats / name) for name in names]
    return [value for value in values if isinstance(value, dict)]


def read_beat(stage: StageFolder, rank: int) -> dict[str, Any] | None:
    """The heartbeat of one rank, None where there is none or it does not parse."""
    value = read_json(stage.beat(rank))
    return value if isinstance(value, dict) else None


def this_worker() -> dict[str, Any]:
    """Where this process runs, and in which attempt of which job."""
    return {
        "host": os.environ.get("SLURMD_NODENAME") or socket.gethostname(),
        "pid": os.getpid(),
        "job": slurm_job() or os.environ.get("SUBMITIT_LOCAL_JOB_ID"),
        "restarts": int(os.environ.get("SLURM_RESTART_COUNT") or 0),
        "code": os.environ.get("CEMIFACE_CODE"),
    }


def slurm_job() -> str | None:
    """This job's id as Slurm's commands want it; the plain id of an array's last task means the whole array."""
    array, task = os.environ.get("SLURM_ARRAY_JOB_ID"), os.environ.get("SLURM_ARRAY_TASK_ID")
    return f"{array}_{task}" if array and task else os.environ.get("SLURM_JOB_ID")


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
