"""Files that are read as they were recorded: opened without following links, hashed and parsed as the same bytes.

A file may be exchanged between a check and a later `open`. So the check is about what was opened: either the bytes that
are handed on, or the descriptor that is read through afterwards.
"""

from __future__ import annotations

import errno
import hashlib
import os
import stat
from pathlib import Path

from slurm.errors import RunError
from slurm.files import Output

READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK  # the last: a FIFO must not wait for its writer

NOT_REGULAR = {errno.ELOOP, errno.ENXIO, errno.EISDIR}  # a link, a socket, a folder


class NotRegularError(RunError):
    """A link, folder, FIFO, socket or device where a regular file should be."""


def open_regular(path: Path, *, below: Path | None = None) -> int:
    """A descriptor of a regular file; neither the file nor a folder between it and `below` may be a link.

    Raises:
        NotRegularError: it is a link, a folder, a FIFO, a socket or a device.
        OSError: as `os.open`, for instance FileNotFoundError.
    """
    *folders, name = path.relative_to(below).parts if below else (str(path),)
    parent = os.open(below, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC) if below else None
    try:
        for folder in folders:
            inner = os.open(folder, READ | os.O_DIRECTORY, dir_fd=parent)
            assert parent is not None
            os.close(parent)
            parent = inner
        descriptor = os.open(name, READ, dir_fd=parent)
    except OSError as error:
        if error.errno in NOT_REGULAR or (below and error.errno == errno.ENOTDIR):
            raise _not_regular(path) from None
        raise
    finally:
        if parent is not None:
            os.close(parent)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise _not_regular(path)
    return descriptor


def _not_regular(path: Path) -> NotRegularError:
    return NotRegularError(
        f"{path}: is not a regular file but a link, folder, FIFO, socket or device; put the file itself there"
    )


def read_regular(path: Path, *, below: Path | None = None) -> bytes:
    """The content of a regular file; see `open_regular`."""
    with os.fdopen(open_regular(path, below=below), "rb") as file:
        return file.read()


def read_certified(path: Path, recorded: Output, *, remedy: str) -> bytes:
    """The content of a file, which is exactly what was recorded.

    Raises:
        RunError: it is missing, not a regular file, or has other bytes; names the file and `remedy`, a command.
    """
    descriptor = _opened(path, remedy=remedy)
    with os.fdopen(descriptor, "rb") as file:
        data = file.read(recorded.bytes + 1)
    _compare(path, recorded, size=len(data), sha256=hashlib.sha256(data).hexdigest(), remedy=remedy)
    return data


def open_certified(path: Path, recorded: Output, *, remedy: str, link_of: Path | None = None) -> int:
    """A descriptor of a large file whose bytes are those recorded, at its start; read through it, and close it.

    Args:
        link_of: the file that messages name, where `path` is another name of it.

    Raises:
        RunError: as `read_certified`.
    """
    descriptor = _opened(path, remedy=remedy)
    try:
        with os.fdopen(descriptor, "rb", closefd=False) as file:
            sha256 = hashlib.file_digest(file, "sha256").hexdigest()
        _compare(link_of or path, recorded, size=os.fstat(descriptor).st_size, sha256=sha256, remedy=remedy)
        os.lseek(descriptor, 0, os.SEEK_SET)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def _opened(path: Path, *, remedy: str) -> int:
    try:
        return open_regular(path)
    except NotRegularError as error:
        raise RunError(f"{str(error).partition(';')[0]}; remove it and {remedy}") from None
    except FileNotFoundError:
        raise RunError(f"{path}: is missing; {remedy}") from None
    except OSError as error:
        raise RunError(f"{path}: {error.strerror}; remove it and {remedy}") from None


def _compare(path: Path, recorded: Output, *, size: int, sha256: str, remedy: str) -> None:
    if (size, sha256) != (recorded.bytes, recorded.sha256):
        raise RunError(
            f"{path}: is not the file that was recorded: got sha256 {sha256[:12]}, allowed: {recorded.sha256[:12]} "
            f"({recorded.bytes} bytes); remove it and {remedy}"
        )
