"""Who is at work on a run from this machine: the process that holds the run's lock."""

from __future__ import annotations

import fcntl
import os
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, kw_only=True)
class Launcher:
    """The process that holds a run's lock. `pid` is None where it is not one of this machine, or not ours to see."""

    pid: int | None


def launcher_at_work(lock: Path) -> Launcher | None:
    """The launcher that is at work on the run of this lock file, None if nobody is."""
    try:
        handle = os.open(lock, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
        return None  # nobody held it; closing gives it back at once
    except BlockingIOError:
        told = os.pread(handle, 32, 0).decode(errors="replace").strip()
        pid = int(told) if told.isdecimal() else None
        return Launcher(pid=pid if pid is not None and _has_open(pid, lock) else None)
    except OSError:
        return None  # no locks here
    finally:
        os.close(handle)


def _has_open(pid: int, path: Path) -> bool:
    """Whether process `pid` of this machine has the file open: another machine's pid may be anybody's here."""
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
