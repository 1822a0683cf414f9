"""Files that appear whole or not at all: written under a temporary name, hashed, synced, then linked into place."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, BinaryIO

from slurm.disk import NO_LINKS, NO_RECORD, NO_SYNC, TRANSIENT, disk_errors, exists, told, tried_again
from slurm.errors import DiskError, RunError
from slurm.partial_files import partial_path

COPIED_AT_ONCE = 1 << 20  # bytes


@dataclass(frozen=True, kw_only=True)
class Output:
    """A published file: its name inside the stage folder, its size in bytes and the sha256 of its content."""

    name: str
    bytes: int
    sha256: str

    def as_json(self) -> dict[str, Any]:
        """The output as markers and summaries store it."""
        return asdict(self)


class PartialFile:
    """A binary file that is being written under a temporary name; hashes and counts the bytes on the way."""

    def __init__(self, file: BinaryIO, *, path: Path) -> None:
        self._file, self._path = file, path
        self._hash = hashlib.sha256()
        self._bytes = 0

    def write(self, data: bytes) -> int:
        """Append `data`."""
        self._hash.update(data)
        self._bytes += len(data)
        with disk_errors(self._path):
            return self._file.write(data)

    def tell(self) -> int:
        """Bytes written so far; pyarrow asks for it when it writes Parquet files."""
        return self._bytes

    def flush(self) -> None:
        """Hand buffered bytes to the operating system."""
        with disk_errors(self._path):
            self._file.flush()

    def sync(self) -> None:
        """Flush to the disk."""
        self.flush()
        with disk_errors(self._path):
            _fsync(self._file.fileno())

    def link(self, path: Path) -> None:
        """Give the bytes written so far a second name that stays when this file is removed; replaces an older file."""
        self.sync()
        with disk_errors(path):
            tried_again(lambda: path.parent.mkdir(parents=True, exist_ok=True))
            tried_again(lambda: path.unlink(missing_ok=True))
            link(Path(self._file.name), path)

    def output(self, name: str) -> Output:
        """Size and hash of the bytes written so far, under `name`."""
        return Output(name=name, bytes=self._bytes, sha256=self._hash.hexdigest())


@contextmanager
def publishing(path: Path, *, replace: bool = False) -> Iterator[PartialFile]:
    """Yield a file to write. Leaving the block without an exception makes it durable as `path`; otherwise it vanishes.

    Two writers of one path may race: both must write equal content. With `replace` the last writer wins; this is for
    files that change while a run is at work (summaries, heartbeats).

    Raises:
        RunError: `path` exists with other content, or the file could not be written (the message names the path).
    """
    temporary = partial_path(path)
    try:
        with disk_errors(path):
            tried_again(lambda: path.parent.mkdir(parents=True, exist_ok=True))
            file = tried_again(lambda: open(temporary, "xb"))  # noqa: SIM115 (closed below)
        try:
            part = PartialFile(file, path=path)
            yield part
            part.sync()
        finally:
            with suppress(OSError):  # after a failed write, close() tries to write again and fails again
                file.close()
        with disk_errors(path):
            _move_into_place(temporary, path, sha256=part.output(path.name).sha256, replace=replace)
        sync_folder(path.parent)
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)


def publish(path: Path, data: bytes, *, replace: bool = False) -> Output:
    """Write `data` as `path`, whole or not at all; see `publishing`. A write that fails is tried once more."""
    try:
        return _publish(path, data, replace=replace)
    except DiskError as error:
        if error.number not in TRANSIENT:
            raise
    return _publish(path, data, replace=replace)


def _publish(path: Path, data: bytes, *, replace: bool) -> Output:
    with publishing(path, replace=replace) as part:
        part.write(data)
    return part.output(path.name)


def publish_json(path: Path, value: Any, *, replace: bool = False) -> Output:
    """Write a JSON value as `path`, whole or not at all; see `publishing`."""
    text = json.dumps(value, indent=1, sort_keys=True, allow_nan=False, ensure_ascii=False)
    return publish(path, (text + "\n").encode(), replace=replace)


def _move_into_place(temporary: Path, path: Path, *, sha256: str, replace: bool) -> None:
    if replace:
        _replace(temporary, path, sha256=sha256)
        return
    try:
        tried_again(lambda: os.link(temporary, path))
        return
    except FileExistsError:
        pass
    except OSError as error:
        if error.errno not in NO_LINKS:
            raise
        if not exists(path):
            _replace(temporary, path, sha256=sha256)  # if two writers get here at the same moment, the last one wins
            return
    # Another rank published the same work first. Work is deterministic, so different bytes mean a bug.
    found = sha256_of(path)
    if found != sha256:
        raise RunError(
            f"{path}: exists with other content ({found[:12]}) than the new file ({sha256[:12]}); "
            "remove it if you do not need it and run again"
        )


def _replace(temporary: Path, path: Path, *, sha256: str) -> None:
    try:
        tried_again(lambda: os.replace(temporary, path))
    except FileNotFoundError:
        if not exists(path) or sha256_of(path) != sha256:
            raise
        # It was moved by a try whose answer was lost on the way from the file server.


def link(path: Path, name: Path) -> None:
    """Give a whole regular file a second name; copies it where the file system cannot.

    Raises:
        RunError: `path` is a link, a FIFO or anything else that is no regular file; or `name` could not be written.
    """
    with disk_errors(name):
        _require_regular(path, found=path)
        try:
            tried_again(lambda: os.link(path, name))
        except FileExistsError:
            if not os.path.samefile(path, name):  # else a try whose answer was lost
                raise
        except OSError as error:
            if error.errno not in NO_LINKS:
                raise
            _copy(path, name)
        try:
            _require_regular(path, found=name)  # once more: `path` may have been exchanged before it was linked
        except RunError:
            name.unlink()
            raise


def _copy(path: Path, name: Path) -> None:
    """Copy a file; the copy appears whole."""
    if exists(name):
        raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(name))
    with open(path, "rb", opener=_without_following) as file, publishing(name, replace=True) as copy:
        while piece := file.read(COPIED_AT_ONCE):
            copy.write(piece)


def _require_regular(path: Path, *, found: Path) -> None:
    if not stat.S_ISREG(os.lstat(found).st_mode):
        raise RunError(f"{path}: got a link, FIFO, folder or device, allowed: a regular file; remove it and run again")


def _without_following(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NOFOLLOW | os.O_NONBLOCK)


def sha256_of(path: Path) -> str:
    """The sha256 of a file's content, in hex.

    Raises:
        FileNotFoundError: there is no such file.
        DiskError: it cannot be read.
    """
    try:
        return tried_again(lambda: _sha256_of(path))
    except FileNotFoundError:
        raise
    except OSError as error:
        raise told(path, error, doing="read") from error


def _sha256_of(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def digest(value: Any) -> str:
    """The sha256 of a JSON value in canonical form, in hex."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()


def read_json(path: Path) -> Any:
    """The JSON value in `path`; None if there is no such file or it is not JSON (foreign or damaged).

    Raises:
        DiskError: it cannot be read, so that nobody knows what it says.
    """
    try:
        return json.loads(tried_again(path.read_bytes))
    except OSError as error:
        if error.errno in NO_RECORD:
            return None
        raise told(path, error, doing="read") from error
    except (ValueError, RecursionError):  # the latter: nested deeper than the parser goes
        return None


def sync_folder(folder: Path) -> None:
    """Make the names in `folder` durable."""
    with disk_errors(folder):
        handle = tried_again(lambda: os.open(folder, os.O_RDONLY | os.O_DIRECTORY))
        try:
            _fsync(handle)
        finally:
            os.close(handle)


def _fsync(handle: int) -> None:
    try:
        os.fsync(handle)
    except OSError as error:
        if error.errno not in NO_SYNC:
            raise  # not tried again: after a failed fsync, a second one succeeds although the data are lost
