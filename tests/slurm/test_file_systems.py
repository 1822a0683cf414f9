"""The table of docs/file_systems.md: every error is injected into every operation, and the outcomes are compared."""

from __future__ import annotations

import errno
import fcntl
import os
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from slurm import files
from slurm.checkpoints import Checkpoint, Checkpoints
from slurm.disk import listed, move
from slurm.errors import DiskError
from slurm.files import link, publish, publishing, read_json, sha256_of, sync_folder
from slurm.locks import locked
from slurm.markers import Sizes
from slurm.partial_files import partial_path, sweep
from slurm.ranks.heartbeat_writer import HeartbeatWriter
from slurm.ranks.heartbeats import read_heartbeat
from slurm.ranks.stop import StopFlag, Stopped
from slurm.ranks.worker import Worker
from slurm.run_folder import StageFolder

DOCS = Path(__file__).parents[2] / "docs" / "file_systems.md"

# As "all others" of the table: what NFS, Lustre, BeeGFS and quotas give.
OTHERS = (
    *("ENOSPC", "EDQUOT", "EROFS", "EACCES", "EPERM", "EIO", "ESTALE", "EXDEV", "EMLINK", "EOPNOTSUPP", "ENOSYS"),
    *("EINVAL", "ETXTBSY", "EINTR", "EAGAIN", "EBUSY", "ETIMEDOUT", "EMFILE", "ENAMETOOLONG", "ENOLCK", "EFBIG"),
)


@dataclass
class Fault:
    """Fails the calls of an operation for which `when` holds, `times` times; then lets them through."""

    number: int
    times: int = 1 << 30

    def into(self, real: Callable[..., Any], *, when: Callable[..., bool] = lambda *_: True) -> Callable[..., Any]:
        def call(*arguments: Any, **more: Any) -> Any:
            if self.times > 0 and when(*arguments):
                self.times -= 1
                raise OSError(self.number, os.strerror(self.number), "inner")
            return real(*arguments, **more)

        return call


Patch = pytest.MonkeyPatch


@dataclass(frozen=True)
class Operation:
    """What is done in a folder, and where the fault is put. `do` returns whether the result is as without the fault."""

    prepare: Callable[[Path], None]
    do: Callable[[Path], bool]
    inject: Callable[[Patch, Fault], None]
    path: str = "data"  # that the message names


def _with_data(folder: Path) -> None:
    (folder / "data").write_bytes(b"bytes")


def _nothing(folder: Path) -> None:
    pass


def _published(folder: Path) -> bool:
    publish(folder / "data", b"bytes")
    return (folder / "data").read_bytes() == b"bytes"


def _replaced(folder: Path) -> bool:
    publish(folder / "data", b"new", replace=True)
    return (folder / "data").read_bytes() == b"new"


def _new_folder(folder: Path) -> bool:
    publish(folder / "new" / "data", b"bytes")
    return (folder / "new" / "data").read_bytes() == b"bytes"


def _synced(folder: Path) -> bool:
    sync_folder(folder)
    return True


def _linked(folder: Path) -> bool:
    link(folder / "data", folder / "second")
    return (folder / "second").read_bytes() == b"bytes"


def _moved(folder: Path) -> bool:
    for name in ("data", "inner"):
        move(folder / name, folder / "away" / name)
    found = (folder / "away" / "data").read_bytes() + (folder / "away" / "inner" / "file").read_bytes()
    return found == b"bytesinside" and not (folder / "data").exists() and not (folder / "inner").exists()


def _to_move(folder: Path) -> None:
    _with_data(folder)
    (folder / "inner").mkdir()
    (folder / "inner" / "file").write_bytes(b"inside")


def _read(folder: Path) -> bool:
    return bool(read_json(folder / "data") == {"a": 1})


def _locked(folder: Path) -> bool:
    stop = StopFlag()
    stop.ask("waits")
    try:
        with locked(folder / "data", stop=stop):
            return True
    except Stopped:
        return False


def _swept(folder: Path) -> bool:
    return sweep(folder) == []


def _of_a_dead_writer(folder: Path) -> None:
    with pytest.MonkeyPatch.context() as elsewhere:
        elsewhere.setattr(os, "getpid", lambda: 2**22 + 1)
        partial_path(folder / "data").touch()


def _beat(folder: Path) -> HeartbeatWriter:
    return HeartbeatWriter(StageFolder(folder), worker=Worker(rank=0, host="c1", pid=12))


def _ended(folder: Path) -> bool:
    _beat(folder).update(state="failed", reason="x" * 300, exit=74)
    found = read_heartbeat(StageFolder(folder), 0)
    return found is not None and (found.state, found.exit) == ("failed", 74)


def _is_folder(handle: int) -> bool:
    return stat.S_ISDIR(os.fstat(handle).st_mode)


def _into_open(patch: Patch, fault: Fault) -> None:
    patch.setattr(files, "open", fault.into(open, when=lambda path, *_: ".part" in str(path)), raising=False)


def _into_write(patch: Patch, fault: Fault) -> None:
    def broken(path: Path, *arguments: Any, **more: Any) -> Any:
        file = open(path, *arguments, **more)  # noqa: SIM115
        if ".part" not in str(path):
            return file

        class Broken:
            name = str(path)
            write = staticmethod(fault.into(file.write))
            flush, close, fileno = file.flush, file.close, file.fileno

        return Broken()

    patch.setattr(files, "open", broken, raising=False)


def _into_os(name: str, when: Callable[..., bool] = lambda *_: True) -> Callable[[Patch, Fault], None]:
    return lambda patch, fault: patch.setattr(os, name, fault.into(getattr(os, name), when=when))


def _into_path(name: str, suffix: str = "data") -> Callable[[Patch, Fault], None]:
    def inject(patch: Patch, fault: Fault) -> None:
        patch.setattr(Path, name, fault.into(getattr(Path, name), when=lambda path, *_: path.name.endswith(suffix)))

    return inject


def _into_hash(patch: Patch, fault: Fault) -> None:
    patch.setattr(files.hashlib, "file_digest", fault.into(files.hashlib.file_digest))


OPERATIONS = {
    "write a file: make it under its temporary name": Operation(_nothing, _published, _into_open),
    "write a file: write": Operation(_nothing, _published, _into_write),
    "write a file: fsync": Operation(_nothing, _published, _into_os("fsync", lambda handle: not _is_folder(handle))),
    "write a file: link it into place": Operation(_nothing, _published, _into_os("link")),
    "write a file: move it into place": Operation(_with_data, _replaced, _into_os("replace")),
    "make a folder": Operation(_nothing, _new_folder, _into_path("mkdir", "new"), path="new"),
    "make the names in a folder durable": Operation(_nothing, _synced, _into_os("fsync", _is_folder), path=""),
    "give a file a second name (publish, unfinished tars)": Operation(
        _with_data, _linked, _into_os("link", lambda path, name: Path(name).name == "second"), path="second"
    ),
    "move a file or folder (superseded, checkpoints)": Operation(
        _to_move, _moved, _into_os("rename", lambda path, name: ".part" not in str(path)), path="away"
    ),
    "read a record (marker, summary, plan, heartbeat)": Operation(
        lambda folder: (folder / "data").write_text('{"a": 1}') and None, _read, _into_path("read_bytes")
    ),
    "hash a file": Operation(_with_data, lambda folder: bool(sha256_of(folder / "data")), _into_hash),
    "list a folder (markers, heartbeats, checkpoints)": Operation(
        _with_data, lambda folder: listed(folder) == ["data"], _into_os("listdir"), path=""
    ),
    "look up the size of an output": Operation(
        _with_data, lambda folder: Sizes(StageFolder(folder)).of("data") == 5, _into_path("stat")
    ),
    "read a file of a checkpoint": Operation(
        _with_data,
        lambda folder: Checkpoint(images=1, folder=folder).read("data") == b"bytes",
        _into_path("read_bytes"),
    ),
    "make a lock file": Operation(_nothing, _locked, _into_os("open")),
    "lock": Operation(
        _nothing, _locked, lambda patch, fault: patch.setattr(fcntl, "flock", fault.into(fcntl.flock)), path=""
    ),
    "remove the partial files of ended processes": Operation(
        _of_a_dead_writer, _swept, _into_path("unlink", ".part"), path=""
    ),
    "end a rank: write its last heartbeat": Operation(lambda folder: _beat(folder).update(), _ended, _into_open),
}


def _rows() -> Iterator[tuple[str, str, str]]:
    """Operation, error and outcome of each cell of the table."""
    rows = [
        [cell.strip() for cell in line.strip("|").split(" | ")]
        for line in DOCS.read_text().splitlines()
        if line.startswith("| ") and not line.startswith("| operation")
    ]
    for operation, errors, outcome in rows:
        named = [name for row in rows if row[0] == operation for name in row[1].split(", ") if name[0] == "E"]
        names = [name for name in OTHERS if name not in named] if errors == "all others" else errors.split(", ")
        for name in names:
            yield operation, name, outcome.rstrip(" |").partition(":")[0]


ROWS = list(_rows())


def test_the_table_has_every_operation() -> None:
    assert {operation for operation, _, _ in ROWS} == set(OPERATIONS)
    assert len(ROWS) > 300


@contextmanager
def _injected(operation: Operation, number: int, *, times: int) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("slurm.disk.PAUSES", (0.0,) * 4)
        operation.inject(patch, Fault(number, times=times))
        yield


@pytest.mark.parametrize(("name", "error", "outcome"), ROWS)
def test_an_error_of_the_file_system_has_the_outcome_of_the_table(
    tmp_path: Path, name: str, error: str, outcome: str
) -> None:
    operation, number = OPERATIONS[name], getattr(errno, error)
    operation.prepare(tmp_path)
    if outcome in {"tried again", "written again"}:
        with _injected(operation, number, times=4 if outcome == "tried again" else 1):
            assert operation.do(tmp_path)
        for path in tmp_path.glob("*"):
            if path.is_file():
                path.unlink()
        tmp_path = tmp_path / "again"
        tmp_path.mkdir()
        operation.prepare(tmp_path)
    if outcome in {"tried again", "written again", "told"}:
        with _injected(operation, number, times=1 << 30), pytest.raises(DiskError) as told:
            operation.do(tmp_path)
        assert told.value.number == number
        assert str(tmp_path / operation.path) in str(told.value)
        assert os.strerror(number) in str(told.value)
        assert "run again" in str(told.value)
        assert "\n" not in str(told.value)
    elif outcome in {"absent", "waits"}:
        with _injected(operation, number, times=1 << 30):
            assert not operation.do(tmp_path)
    else:
        with _injected(operation, number, times=1 << 30):
            assert operation.do(tmp_path)
    if name != "remove the partial files of ended processes":
        assert not list(tmp_path.rglob("*.part"))


def test_a_large_file_that_fails_is_told_at_once_and_leaves_nothing(tmp_path: Path) -> None:
    def write() -> None:
        with publishing(tmp_path / "data.tar") as part:
            part.write(b"half")

    with _injected(OPERATIONS["write a file: write"], errno.EIO, times=1), pytest.raises(DiskError, match=r"data\.tar"):
        write()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("call", ["link", "replace", "rename"])
def test_a_try_whose_answer_was_lost_counts(tmp_path: Path, call: str) -> None:
    """The file server did the work, and the client, which heard nothing, asks again."""
    real, times = getattr(os, call), [1]

    def does_and_fails(*arguments: Any) -> None:
        real(*arguments)
        if times.pop(0) if times else 0:
            raise OSError(errno.ETIMEDOUT, os.strerror(errno.ETIMEDOUT))

    _to_move(tmp_path)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("slurm.disk.PAUSES", (0.0,) * 4)
        patch.setattr(os, call, does_and_fails)
        match call:
            case "link":
                assert _linked(tmp_path)
            case "replace":
                assert _replaced(tmp_path)
            case _:
                assert _moved(tmp_path)


def test_a_checkpoint_that_cannot_be_read_is_not_set_aside_as_damaged(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path / "checkpoints", key="training")
    checkpoints.save(10, files={"data": b"weights"})
    unreadable = pytest.raises(DiskError, match=r"data: could not be read: Input/output error")
    with _injected(OPERATIONS["hash a file"], errno.EIO, times=1 << 30), unreadable:
        checkpoints.newest()
    found = checkpoints.newest()
    assert found is not None
    assert found.images == 10
