"""Files appear whole or not at all, even if a writer is killed or the disk fails."""
# ruff: noqa: N802

from __future__ import annotations

import errno
import hashlib
import os
import resource
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from slurm.errors import RunError
from slurm.files import link, publish, publish_json, publishing, read_json
from slurm.partial_files import partial_path, sweep
from slurm.processes import is_alive

NO_PROCESS = 2**22 + 1  # above every process id


def _names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def _stuck_writer(path: Path, *, bytes_written: int) -> subprocess.Popen[str]:
    """A process that has written some bytes of `path` and will never write the rest."""
    code = (
        "import sys, time\nfrom pathlib import Path\nfrom slurm.files import publishing\n"
        "with publishing(Path(sys.argv[1])) as part:\n"
        "    part.write(b'x' * int(sys.argv[2])); part.flush(); print('written', flush=True); time.sleep(600)\n"
    )
    command = [sys.executable, "-c", code, str(path), str(bytes_written)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout
    assert process.stdout.readline() == "written\n"
    return process


def test_a_file_is_there_whole_with_the_hash_of_its_bytes(tmp_path: Path) -> None:
    path = tmp_path / "new" / "data.tar"
    with publishing(path) as part:
        part.write(b"some ")
        assert not path.exists()
        part.write(b"bytes")
    output = part.output("data.tar")
    assert path.read_bytes() == b"some bytes"
    assert (output.bytes, output.sha256) == (10, hashlib.sha256(b"some bytes").hexdigest())
    assert _names(path.parent) == ["data.tar"]


def test_a_producer_that_fails_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), publishing(tmp_path / "data.tar") as part:
        part.write(bytes(1 // 0))
    assert _names(tmp_path) == []


def test_an_error_of_the_producers_inputs_is_not_taken_for_the_disks(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError), publishing(tmp_path / "data.tar") as part:
        part.write((tmp_path / "input").read_bytes())
    assert _names(tmp_path) == []


def test_F08_a_second_writer_of_equal_bytes_succeeds(tmp_path: Path) -> None:
    path = tmp_path / "data.tar"
    first = publish(path, b"equal")
    inode = path.stat().st_ino
    assert publish(path, b"equal") == first
    assert path.stat().st_ino == inode
    assert _names(tmp_path) == ["data.tar"]


def test_F08_a_second_writer_of_other_bytes_is_refused_naming_both(tmp_path: Path) -> None:
    path = tmp_path / "data.tar"
    publish(path, b"mine")
    with pytest.raises(RunError) as error:
        publish(path, b"yours")
    for content in (b"mine", b"yours"):
        assert hashlib.sha256(content).hexdigest()[:12] in str(error.value)
    assert str(path) in str(error.value)
    assert path.read_bytes() == b"mine"
    assert _names(tmp_path) == ["data.tar"]


def test_files_that_change_by_nature_are_replaced(tmp_path: Path) -> None:
    path = tmp_path / "summary.json"
    publish_json(path, {"images": 1})
    publish_json(path, {"images": 2}, replace=True)
    assert read_json(path) == {"images": 2}


@pytest.mark.parametrize("bytes_written", [0, 1, 100_000])
def test_F01_a_killed_writer_leaves_no_file_and_the_next_start_sweeps(tmp_path: Path, bytes_written: int) -> None:
    writer = _stuck_writer(tmp_path / "data.tar", bytes_written=bytes_written)
    assert sweep(tmp_path) == []  # its writer is running
    writer.kill()
    writer.wait()
    (part,) = _names(tmp_path)
    assert part.endswith(".part")
    assert sweep(tmp_path) == [part]
    assert _names(tmp_path) == []


@pytest.mark.parametrize("host", ["node", "node-7", "node7.cluster.example.org"])
def test_F45_partial_files_of_ended_processes_are_swept_at_any_depth(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, host: str
) -> None:
    monkeypatch.setattr(socket, "gethostname", lambda: host)
    monkeypatch.setattr(os, "getpid", lambda: NO_PROCESS)
    for folder in (tmp_path, tmp_path / "done"):
        folder.mkdir(exist_ok=True)
        partial_path(folder / "a.b.json").write_bytes(b"half")
    partial_path(tmp_path / "step-1").mkdir()
    assert len(sweep(tmp_path)) == 3
    assert _names(tmp_path) == ["done"]
    assert _names(tmp_path / "done") == []


def test_F45_partial_files_of_running_processes_of_other_hosts_and_foreign_files_stay(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = [partial_path(tmp_path / "of_a_running_process"), tmp_path / ".download.part", tmp_path / ".a@x-12-0.part"]
    with monkeypatch.context() as elsewhere:
        elsewhere.setattr(os, "getpid", lambda: NO_PROCESS)
        elsewhere.setattr(socket, "gethostname", lambda: "elsewhere")
        kept.append(partial_path(tmp_path / "of_another_host"))
    for path in kept:
        path.touch()
    assert sweep(tmp_path) == []
    assert _names(tmp_path) == sorted(path.name for path in kept)


@contextmanager
def _files_up_to(size: int) -> Iterator[None]:
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_F27_a_full_disk_names_the_file_and_keeps_the_earlier_ones(tmp_path: Path) -> None:
    publish(tmp_path / "earlier.tar", b"whole")
    with _files_up_to(4096), pytest.raises(RunError, match=r"later\.tar: could not be written: .*free space"):
        publish(tmp_path / "later.tar", b"x" * 100_000)
    assert _names(tmp_path) == ["earlier.tar"]
    publish(tmp_path / "later.tar", b"x" * 100_000)  # with space again, the same call succeeds
    assert _names(tmp_path) == ["earlier.tar", "later.tar"]


@pytest.mark.parametrize("call", ["fsync", "link"])
def test_F28_a_quota_exceeded_at_the_end_is_a_failed_write(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    def over_quota(*arguments: object) -> None:
        raise OSError(errno.EDQUOT, os.strerror(errno.EDQUOT))

    monkeypatch.setattr(os, call, over_quota)
    with pytest.raises(RunError, match=r"data\.tar: could not be written: .*quota"):
        publish(tmp_path / "data.tar", b"bytes")
    assert _names(tmp_path) == []


def test_F31_without_hard_links_files_are_still_whole_and_unequal_ones_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_links(*arguments: object) -> None:
        raise PermissionError(errno.EPERM, os.strerror(errno.EPERM))

    monkeypatch.setattr(os, "link", no_links)
    publish(tmp_path / "data.tar", b"mine")
    publish(tmp_path / "data.tar", b"mine")
    with pytest.raises(RunError, match="other content"):
        publish(tmp_path / "data.tar", b"yours")
    assert (tmp_path / "data.tar").read_bytes() == b"mine"
    assert _names(tmp_path) == ["data.tar"]


def test_a_path_below_a_file_is_refused_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(RunError) as error:
        publish(tmp_path / "file" / "data.tar", b"bytes")
    assert str(tmp_path / "file" / "data.tar") in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("content", [b"", b'{"a": 1', b"\xff\xfe", b"\0" * 100])
def test_damaged_json_reads_as_nothing(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "value.json"
    path.write_bytes(content)
    assert read_json(path) is None
    assert read_json(tmp_path / "missing.json") is None


@pytest.mark.parametrize("times", [1, 9])
def test_F30_a_stale_handle_is_opened_again_but_not_forever(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, times: int
) -> None:
    monkeypatch.setattr("slurm.disk.PAUSES", (0.0, 0.0))
    (tmp_path / "value.json").write_text('{"a": 1}')
    read, left = Path.read_bytes, [OSError(errno.ESTALE, os.strerror(errno.ESTALE))] * times

    def stale_at_first(path: Path) -> bytes:
        if left:
            raise left.pop()
        return read(path)

    monkeypatch.setattr(Path, "read_bytes", stale_at_first)
    if times == 1:
        assert read_json(tmp_path / "value.json") == {"a": 1}
    else:  # it may hold anything, so it is not taken for absent
        with pytest.raises(RunError, match=r"value\.json: could not be read: Stale file handle; .*run again"):
            read_json(tmp_path / "value.json")


def test_nothing_that_is_not_json_is_written_as_json(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        publish_json(tmp_path / "value.json", {"loss": float("nan")})
    assert _names(tmp_path) == []


def test_a_zombie_is_not_alive() -> None:
    process = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    assert is_alive(process.pid)
    process.send_signal(signal.SIGKILL)
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)  # ended, and its exit code is not collected yet
    assert not is_alive(process.pid)
    process.wait()
    assert not is_alive(process.pid)


@pytest.mark.parametrize("links", [True, False])
def test_the_bytes_so_far_get_a_second_name_that_stays_when_the_writer_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, links: bool
) -> None:
    def no_links(*arguments: object) -> None:
        raise PermissionError(errno.EPERM, os.strerror(errno.EPERM))

    if not links:
        monkeypatch.setattr(os, "link", no_links)
    kept = tmp_path / "kept" / "data.tar"

    def fail() -> None:
        with publishing(tmp_path / "data.tar") as part:
            for count in (1, 2):  # the second time an older file is replaced
                part.write(b"half")
                part.link(kept)
                assert (part.output("data.tar").bytes, kept.read_bytes()) == (4 * count, b"half" * count)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert kept.read_bytes() == b"halfhalf"
    assert _names(tmp_path) == ["kept"]


def test_a_second_name_that_cannot_be_given_names_it_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    publish(tmp_path / "data.tar", b"bytes")
    with pytest.raises(RunError, match=r"file/data\.tar: could not be written: Not a directory"):
        link(tmp_path / "data.tar", tmp_path / "file" / "data.tar")
    with publishing(tmp_path / "other.tar") as part:
        with pytest.raises(RunError, match=r"file/kept\.tar: could not be written: ") as error:
            part.link(tmp_path / "file" / "kept.tar")
        part.write(b"goes on")
    assert "\n" not in str(error.value)
    assert (tmp_path / "other.tar").read_bytes() == b"goes on"


@pytest.mark.parametrize("hard_links", [True, False])
def test_only_regular_files_get_a_second_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, hard_links: bool
) -> None:
    if not hard_links:

        def refused(*_: object) -> None:
            raise PermissionError(errno.EPERM, os.strerror(errno.EPERM))

        monkeypatch.setattr(os, "link", refused)
    (tmp_path / "secret").write_bytes(b"elsewhere")
    (tmp_path / "link").symlink_to("secret")
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "folder").mkdir()
    for kind in ("link", "fifo", "folder"):
        with pytest.raises(RunError, match=f"{kind}: got a link, FIFO, folder or device, allowed: a regular file"):
            link(tmp_path / kind, tmp_path / "second")
        assert not os.path.lexists(tmp_path / "second")
    link(tmp_path / "secret", tmp_path / "second")
    assert (tmp_path / "second").read_bytes() == b"elsewhere"
