"""Errors of file systems: which are tried again, which have a way around, and how the others are told.

docs/file_systems.md has them as a table. A test compares it with the code.
"""

from __future__ import annotations

import errno
import os
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

from slurm.errors import DiskError
from slurm.partial_files import partial_path

T = TypeVar("T")

# They may pass by themselves: a file server that restarts, a file that another node has just replaced.
TRANSIENT = {
    *(errno.EINTR, errno.EAGAIN, errno.EBUSY, errno.ETXTBSY, errno.ESTALE, errno.EIO, errno.ETIMEDOUT),
    *(errno.EREMOTEIO, errno.ESHUTDOWN, errno.ENOTCONN),
}

# `link` cannot give the file a second name: no hard links there, another quota project, too many names.
NO_LINKS = {errno.EPERM, errno.EACCES, errno.EOPNOTSUPP, errno.ENOSYS, errno.EXDEV, errno.EMLINK}

# `fsync` is not known there, so that there is nothing to wait for.
NO_SYNC = {errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP}

ABSENT = {errno.ENOENT, errno.ENOTDIR}  # anything else that cannot be read exists, or may exist

NO_RECORD = ABSENT | {errno.EISDIR, errno.ELOOP}  # nor is a folder or a circle of links a record

PAUSES = (0.05, 0.2, 1.0, 3.0)  # seconds between tries

REMEDIES = {
    errno.ENOSPC: "free space or files (`df -h`, `df -i`) and run again",
    errno.EDQUOT: "free space or files of your quota (`quota -s`, `lfs quota`), or ask for more, and run again",
    errno.EFBIG: "free space and run again",
    errno.EROFS: "it is mounted read-only; set `runs` to another place, or ask the administrators, and run again",
    errno.EACCES: "check owner and mode of the file and its folders (`ls -ld`) and run again",
    errno.EPERM: "check owner and mode of the file and its folders (`ls -ld`) and run again",
    errno.EIO: "the disk or its server reported it; run again, and tell the administrators if it stays",
    errno.EREMOTEIO: "the file server reported it; run again, and tell the administrators if it stays",
    errno.ESTALE: "the file server lost track of it; run again",
    errno.EMFILE: "raise the limit of open files (`ulimit -n`) and run again",
    errno.ENFILE: "this machine has too many open files; run again elsewhere",
    errno.ENAMETOOLONG: "choose shorter names and run again",
}

# Errors of this kind come from the file system, wherever they are raised: they are told without a traceback.
FAULTS = {*REMEDIES, *TRANSIENT} - {errno.EAGAIN, errno.EINTR, errno.ENAMETOOLONG, errno.ENOTCONN, errno.ESHUTDOWN}


def tried_again(action: Callable[[], T]) -> T:
    """The result of `action`, which is called again after an error that may pass.

    Raises:
        OSError: the last one, after `PAUSES`; or one that does not pass.
    """
    for pause in PAUSES:
        try:
            return action()
        except OSError as error:
            if error.errno not in TRANSIENT:
                raise
        time.sleep(pause)
    return action()


def told(path: Path | str, error: OSError, *, doing: str = "written") -> DiskError:
    """The error of a file operation as a line for the user. `doing`: what failed, e.g. "read"."""
    reason = error.strerror or str(error).partition("\n")[0] or type(error).__name__
    remedy = REMEDIES.get(error.errno or 0, "check the path and run again")
    return DiskError(f"{path}: could not be {doing}: {reason}; {remedy}", number=error.errno or 0)


def told_fault(error: OSError, *, folder: Path) -> DiskError | None:
    """An error that came up elsewhere, as a line for the user if it is one of the file system; else None."""
    if error.errno not in FAULTS:
        return None
    path = os.fsdecode(error.filename) if isinstance(error.filename, (str, bytes)) else f"a file of {folder}"
    return told(path, error, doing="read or written")


@contextmanager
def disk_errors(path: Path, *, doing: str = "written") -> Iterator[None]:
    """Turn an OSError into a DiskError that names `path`. Wraps only our own operations, not the producer's code."""
    try:
        yield
    except OSError as error:
        raise told(path, error, doing=doing) from error


def exists(path: Path) -> bool:
    """Whether a file or folder exists; a link counts as what it points to.

    Raises:
        DiskError: that cannot be found out.
    """
    try:
        tried_again(path.stat)
    except OSError as error:
        if error.errno in ABSENT:
            return False
        raise told(path, error, doing="read") from error
    return True


def listed(folder: Path) -> list[str]:
    """The names in a folder, in order; none if there is no such folder.

    Raises:
        DiskError: it cannot be read.
    """
    try:
        return sorted(tried_again(lambda: os.listdir(folder)))
    except OSError as error:
        if error.errno in ABSENT:
            return []
        raise told(folder, error, doing="read") from error


def move(path: Path, target: Path) -> None:
    """Move a file or folder within the run; copies it where another file system or quota begins.

    Raises:
        DiskError: it could not be moved.
    """
    with disk_errors(target):
        tried_again(lambda: target.parent.mkdir(parents=True, exist_ok=True))
        try:
            tried_again(lambda: os.rename(path, target))
        except FileNotFoundError:
            if exists(path) or not exists(target):  # else a try whose answer was lost
                raise
        except OSError as error:
            if error.errno != errno.EXDEV:
                raise
            _copy_and_remove(path, target)


def _copy_and_remove(path: Path, target: Path) -> None:
    part = partial_path(target)
    try:
        if path.is_dir():
            shutil.copytree(path, part, symlinks=True)
        else:
            shutil.copy2(path, part, follow_symlinks=False)
        os.rename(part, target)
    finally:
        _remove(part)
    _remove(path)


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)
