"""Which process is working on a run: the one that holds the run's lock."""

from __future__ import annotations

import fcntl
import os
from dataclasses import dataclass
from pathlib import Path

from slurm.disk import disk_errors, exists, tried_again


@dataclass(frozen=True, kw_only=True)
class Launcher:
    """The process that holds a run's lock. `pid` is None if it is on another machine or belongs to another user."""

    pid: int | None


def running_launcher(lock: Path) -> Launcher | None:
    """The launcher that holds this lock file; None if no process does.

    Raises:
        DiskError: the file cannot be opened.
    """
    if not exists(lock):
        return None
    with disk_errors(lock, doing="read"):
        handle = tried_again(lambda: os.open(lock, os.O_RDONLY | os.O_CLOEXEC))
    try:
        fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
        return None  # it was free; closing the file releases it
    except BlockingIOError:
        text = os.pread(handle, 32, 0).decode(errors="replace").strip()
        pid = int(text) if text.isdecimal() else None
        return Launcher(pid=pid if pid is not None and _has_open(pid, lock) else None)
    except OSError:
        return None  # a file system without locks
    finally:
        os.close(handle)


def _has_open(pid: int, path: Path) -> bool:
    """Whether process `pid` of this machine has the file open; a pid of another machine may be any process here."""
    try:
        wanted = os.stat(path)
        for handle in Path(f"/proc/{pid}/fd").iterdir():
            try:
                found = os.stat(handle)
            except OSError:
                continue
            if (found.st_dev, found.st_ino) == (wanted.st_dev, wanted.st_ino):
                return True
    except OSError:
        pass
    return False
