"""Files that appear whole or not at all: written under a temporary name, hashed, synced, then linked into place."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, BinaryIO

from slurm.errors import DiskError, RunError
from slurm.partial_files import partial_path

NO_LINKS = {errno.EPERM, errno.EACCES, errno.EOPNOTSUPP, errno.ENOSYS}  # from file systems without hard links


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
        with _write_errors(self._path):
            return self._file.write(data)

    def tell(self) -> int:
        """Bytes written so far; pyarrow asks for it when it writes Parquet files."""
        return self._bytes

    def flush(self) -> None:
        """Hand buffered bytes to the operating system."""
        with _write_errors(self._path):
            self._file.flush()

    def sync(self) -> None:
        """Flush to the disk."""
        self.flush()
        with _write_errors(self._path):
            os.fsync(self._file.fileno())

    def link(self, path: Path) -> None:
        """Give the bytes written so far a second name that stays when this file is removed; replaces an older file."""
        self.sync()
        with _write_errors(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            path.unlink(missing_ok=True)
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
        with _write_errors(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            file = open(temporary, "xb")  # noqa: SIM115 (closed below, where its errors are suppressed)
        try:
            part = PartialFile(file, path=path)
            yield part
            part.sync()
        finally:
            with suppress(OSError):  # after a failed write, close() tries to write again and fails again
                file.close()
        with _write_errors(path):
            _move_into_place(temporary, path, sha256=part.output(path.name).sha256, replace=replace)
            sync_folder(path.parent)
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)


@contextmanager
def _write_errors(path: Path) -> Iterator[None]:
    """Turn an OSError into a DiskError that names `path`. Wraps only our own writes, not the producer's code."""
    try:
        yield
    except OSError as error:
        raise DiskError(f"{path}: could not be written: {error.strerror or error}; free space and run again") from error


def publish(path: Path, data: bytes, *, replace: bool = False) -> Output:
    """Write `data` as `path`, whole or not at all; see `publishing`."""
    with publishing(path, replace=replace) as part:
        part.write(data)
    return part.output(path.name)


def publish_json(path: Path, value: Any, *, replace: bool = False) -> Output:
    """Write a JSON value as `path`, whole or not at all; see `publishing`."""
    text = json.dumps(value, indent=1, sort_keys=True, allow_nan=False, ensure_ascii=False)
    return publish(path, (text + "\n").encode(), replace=replace)


def _move_into_place(temporary: Path, path: Path, *, sha256: str, replace: bool) -> None:
    if replace:
        os.replace(temporary, path)
        return
    try:
        os.link(temporary, path)
        return
    except FileExistsError:
        pass
    except OSError as error:
        if error.errno not in NO_LINKS:
            raise
        if not path.exists():
            os.replace(temporary, path)  # if two writers get here at the same moment, the last one wins
            return
    # Another rank published the same work first. Work is deterministic, so different bytes mean a bug.
    found = sha256_of(path)
    if found != sha256:
        raise RunError(
            f"{path}: exists with other content ({found[:12]}) than the new file ({sha256[:12]}); "
            "remove it if you do not need it and run again"
        )


def link(path: Path, name: Path) -> None:
    """Give a whole regular file a second name; copies it where the file system has no hard links.

    Raises:
        RunError: `path` is a link, a FIFO or anything else that is no regular file.
    """
    _require_regular(path, found=path)
    try:
        os.link(path, name)
    except OSError as error:
        if error.errno not in NO_LINKS:
            raise
        with open(path, "rb", opener=_without_following) as file, open(name, "xb") as copy:
            shutil.copyfileobj(file, copy)
    try:
        _require_regular(path, found=name)  # once more: `path` may have been exchanged before it was linked
    except RunError:
        name.unlink()
        raise


def _require_regular(path: Path, *, found: Path) -> None:
    if not stat.S_ISREG(os.lstat(found).st_mode):
        raise RunError(f"{path}: got a link, FIFO, folder or device, allowed: a regular file; remove it and run again")


def _without_following(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NOFOLLOW | os.O_NONBLOCK)


def sha256_of(path: Path) -> str:
    """The sha256 of a file's content, in hex."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def digest(value: Any) -> str:
    """The sha256 of a JSON value in canonical form, in hex."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()


def read_json(path: Path) -> Any:
    """The JSON value in `path`; None if there is no such file or it is not JSON (foreign or damaged)."""
    for _ in range(2):
        try:
            return json.loads(path.read_bytes())
        except OSError as error:
            # ESTALE: on a network file system another node replaced the file; opening it again finds the new one.
            if error.errno != errno.ESTALE:
                return None
        except (ValueError, RecursionError):  # the latter: nested deeper than the parser goes
            return None
    return None


def sync_folder(folder: Path) -> None:
    """Make the names in `folder` durable."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
