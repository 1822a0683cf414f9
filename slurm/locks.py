"""Lock files: an older attempt of a rank and its successor do not work at the same time."""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

from slurm.ranks.stop import StopFlag
from slurm.run_folder import StageFolder

SECONDS_BETWEEN_TRIES = 0.1  # to get a lock that another process holds


def claim(stage: StageFolder, rank: int, *, stop: StopFlag | None) -> AbstractContextManager[None]:
    """Hold the lock of a rank; waits while an older attempt of the same rank is still saving its work."""
    return locked(stage.rank_lock(rank), stop=stop)


@contextmanager
def locked(path: Path, *, stop: StopFlag | None) -> Iterator[None]:
    """Hold the lock file `path` against other processes of the run.

    Results do not depend on the lock: files are published whole, and equal work has equal bytes. On file systems
    without locks nothing waits.

    Raises:
        Stopped: a stop was requested while this process waited.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        while not _try_lock(handle):
            if stop is not None:
                stop.check()
            time.sleep(SECONDS_BETWEEN_TRIES)
        yield
    finally:
        os.close(handle)


def _try_lock(handle: int) -> bool:
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        return True  # a file system without locks
    return True
