"""Files that appear whole or not at all: a temporary name beside the target, hash, fsync, link into place."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import re
import secrets
import shutil
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, BinaryIO

from slurm.errors import DiskError, RunError

NO_LINKS = {errno.EPERM, errno.EACCES, errno.EOPNOTSUPP, errno.ENOSYS}  # of file systems without hard links


@dataclass(frozen=True, kw_only=True)
class Output:
    """A published file: its name inside the stage folder, its size in bytes and the sha256 of its content."""

    name: str
    bytes: int
    sha256: str

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


class Part:
    """The binary file a producer writes into before the final name exists; hashes what passes through."""

    def __init__(self, file: BinaryIO, *, path: Path) -> None:
        self._file, self._path = file, path
        self._hash = hashlib.sha256()
        self._bytes = 0

    def write(self, data: bytes) -> int:
        self._hash.update(data)
        self._bytes += len(data)
        with _disk_of(self._path):
            return self._file.write(data)

    def tell(self) -> int:
        return self._bytes

    def flush(self) -> None:
        with _disk_of(self._path):
            self._file.flush()

    def sync(self) -> None:
        """Flush down to the disk."""
        self.flush()
        with _disk_of(self._path):
            os.fsync(self._file.fileno())

    def link(self, path: Path) -> None:
        """Give what was written so far a second name, which outlives this part; an older file there is replaced."""
        self.sync()
        with _disk_of(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            path.unlink(missing_ok=True)
            link(Path(self._file.name), path)

    def output(self, name: str) -> Output:
        return Output(name=name, bytes=self._bytes, sha256=self._hash.hexdigest())


@contextmanager
def publishing(path: Path, *, replace: bool = False) -> Iterator[Part]:
    """Yield a file to write; on leaving without an exception it is durable under `path`, else nothing is.

    Two writers of one path may race: the loser's content must be equal. `replace` is for files that change by nature
    (summaries, heartbeats): there the last writer wins.

    Raises:
        RunError: `path` exists with other content, or the disk refused the bytes (the message names the path).
    """
    temporary = part_path(path)
    try:
        with _disk_of(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            file = open(temporary, "xb")  # noqa: SIM115 (closed below, its errors being the disk's)
        try:
            part = Part(file, path=path)
            yield part
            part.sync()
        finally:
            with suppress(OSError):  # after a failed write, closing tries and fails to write once more
                file.close()
        with _disk_of(path):
            _into_place(temporary, path, sha256=part.output(path.name).sha256, replace=replace)
            sync_folder(path.parent)
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)


@contextmanager
def _disk_of(path: Path) -> Iterator[None]:
    """Name the file in the errors of its disk; errors of whatever else a producer does stay what they are."""
    try:
        yield
    except OSError as error:
        raise DiskError(f"{path}: could not be written: {error.strerror or error}; free space and run again") from error


def part_path(path: Path) -> Path:
    """A temporary name beside `path` that tells whose it is, so that a later start can sweep it."""
    return path.parent / f".{path.name}@{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(4)}.part"


def publish(path: Path, data: bytes, *, replace: bool = False) -> Output:
    """Write `data` under `path` whole or not at all, see `publishing`."""
    with publishing(path, replace=replace) as part:
        part.write(data)
    return part.output(path.name)


def publish_json(path: Path, value: Any, *, replace: bool = False) -> Output:
    text = json.dumps(value, indent=1, sort_keys=True, allow_nan=False, ensure_ascii=False)
    return publish(path, (text + "\n").encode(), replace=replace)


def _into_place(temporary: Path, path: Path, *, sha256: str, replace: bool) -> None:
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
            os.replace(temporary, path)  # of two writers at the same moment the last one wins
            return
    # Another rank published the same work first. Deterministic work has equal bytes; anything else is a defect.
    found = sha256_of(path)
    if found != sha256:
        raise RunError(
            f"{path}: exists with other content ({found[:12]}) than the file just made ({sha256[:12]}); "
            "remove it if it is not wanted and run again"
        )


def link(path: Path, name: Path) -> None:
    """Give a whole file a second name; where the file system has no links, a copy."""
    try:
        os.link(path, name)
    except OSError as error:
        if error.errno not in NO_LINKS:
            raise
        shutil.copyfile(path, name)


def sha256_of(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def digest(value: Any) -> str:
    """The sha256 of a JSON value in canonical form."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()


def read_json(path: Path) -> Any:
    """The JSON value in `path`; None where there is no such file or it is not JSON (a foreign or damaged file)."""
    for _ in range(2):
        try:
            return json.loads(path.read_bytes())
        except OSError as error:
            if (
                error.errno != errno.ESTALE
            ):  # of a network file system: another node replaced it, opened anew it is fresh
                return None
        except ValueError:
            return None
    return None


def sync_folder(folder: Path) -> None:
    """Make names in `folder` durable."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def sweep(folder: Path, *, everyone: bool = False) -> list[str]:
    """Remove what dead processes left unfinished anywhere below `folder`; returns the names.

    Of this host only, as nothing is known of processes elsewhere; with `everyone` the caller knows that none is left.
    """
    owner = re.compile(r"\..+@(.+)-([0-9]+)-[0-9a-f]{8}\.part")
    swept = []
    for path in sorted(folder.rglob(".*.part")):
        found = owner.fullmatch(path.name)
        if found is None:
            continue
        here = found[1] == socket.gethostname()
        if is_alive(int(found[2])) if here else not everyone:
            continue
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)
        swept.append(path.name)
    return swept


def is_alive(pid: int) -> bool:
    """Whether process `pid` of this host exists and is not a zombie."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state not in {"Z", "X"}


def started_at(pid: int) -> float | None:
    """When process `pid` of this host began, in seconds since the epoch to about a second; None if it is gone."""
    try:
        ticks = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19])
        lines = Path("/proc/stat").read_text().splitlines()
    except OSError:
        return None
    boot = next(int(line.split()[1]) for line in lines if line.startswith("btime "))
    return boot + ticks / os.sysconf("SC_CLK_TCK")
