"""Lock files: an older attempt of a rank and its successor do not work at the same time."""

from __future__ import annotations

import errno
import fcntl
import os
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path

from slurm.disk import disk_errors, tried_again
from slurm.ranks.stop import StopFlag
from slurm.ranks.worker import slurm_job, this_host
from slurm.run_folder import StageFolder

SECONDS_BETWEEN_TRIES = 0.1  # to get a lock that another process holds

HELD = {errno.EWOULDBLOCK, errno.EAGAIN, errno.EACCES}  # by another process; NFS answers the last of them

HOLDER_BYTES = 300  # of the text in a lock file that names the process which holds it


def claim(
    stage: StageFolder, rank: int, *, stop: StopFlag | None, waiting: Callable[[str], None] | None = None
) -> AbstractContextManager[None]:
    """Hold the lock of a rank; waits while an older attempt of the same rank is still saving its work."""
    return locked(stage.rank_lock(rank), stop=stop, waiting=waiting, what="an older attempt of this rank")


@contextmanager
def locked(
    path: Path, *, stop: StopFlag | None, waiting: Callable[[str], None] | None = None, what: str = "another process"
) -> Iterator[None]:
    """Hold the lock file `path` against other processes of the run.

    Results do not depend on the lock: files are published whole, and equal work has equal bytes. On file systems
    without locks nothing waits.

    Args:
        waiting: called again and again while this process waits, with what holds the lock, in words.
        what: what the holder is, for that text.

    Raises:
        Stopped: a stop was requested while this process waited.
        DiskError: the lock file cannot be made.
    """
    with disk_errors(path):
        tried_again(lambda: path.parent.mkdir(parents=True, exist_ok=True))
        handle = tried_again(lambda: os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
    try:
        while not _try_lock(handle):
            if waiting is not None:
                waiting(f"waits for {what} to end: {_holder(handle)} holds {path.name}")
            if stop is not None:
                stop.check()
            time.sleep(SECONDS_BETWEEN_TRIES)
        _sign(handle)
        yield
    finally:
        os.close(handle)


def _try_lock(handle: int) -> bool:
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        return error.errno not in HELD  # any other error comes from a file system without locks
    return True


def _sign(handle: int) -> None:
    """Write into the lock file who holds it, for those who wait. Nothing depends on it."""
    job = slurm_job()
    text = f"process {os.getpid()} on {this_host()}{f', job {job}' if job else ''}"
    with suppress(OSError):
        os.ftruncate(handle, 0)
        os.pwrite(handle, text.encode()[:HOLDER_BYTES], 0)


def _holder(handle: int) -> str:
    try:
        text = os.pread(handle, HOLDER_BYTES, 0).decode(errors="replace")
    except OSError:
        text = ""
    return text if text.isprintable() and text else "a process"
