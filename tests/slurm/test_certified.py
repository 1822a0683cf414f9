"""A file that is read is the one that was recorded, whatever is done to its name meanwhile."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from pathlib import Path

import pytest

from slurm.certified import NotRegularError, open_certified, open_regular, read_certified, read_regular
from slurm.errors import RunError
from slurm.files import Output, publish

REMEDY = "run `cemiface made` again"


@pytest.fixture
def recorded(tmp_path: Path) -> Output:
    return publish(tmp_path / "data.bin", b"recorded bytes")


def read_all(path: Path, output: Output) -> bytes:
    """By descriptor."""
    with os.fdopen(open_certified(path, output, remedy=REMEDY), "rb") as file:
        return file.read()


def read_at_once(path: Path, output: Output) -> bytes:
    return read_certified(path, output, remedy=REMEDY)


both = pytest.mark.parametrize("read", [read_all, read_at_once])


@both
def test_a_recorded_file_is_read(tmp_path: Path, recorded: Output, read: Callable[[Path, Output], bytes]) -> None:
    assert read(tmp_path / "data.bin", recorded) == b"recorded bytes"


@both
@pytest.mark.parametrize("content", [b"Recorded bytes", b"recorded byte", b"recorded bytes!", b""])
def test_other_bytes_are_refused(
    tmp_path: Path, recorded: Output, read: Callable[[Path, Output], bytes], content: bytes
) -> None:
    (tmp_path / "data.bin").write_bytes(content)
    with pytest.raises(RunError, match=r"data.bin: is not the file that was recorded.*; remove it and run `cemiface"):
        read(tmp_path / "data.bin", recorded)


@both
def test_a_link_to_the_recorded_bytes_is_refused(
    tmp_path: Path, recorded: Output, read: Callable[[Path, Output], bytes]
) -> None:
    (tmp_path / "link.bin").symlink_to("data.bin")
    with pytest.raises(RunError, match=r"link.bin: is not a regular file but a link, .*; remove it and run `cemiface"):
        read(tmp_path / "link.bin", recorded)


@both
def test_a_missing_file_is_named(tmp_path: Path, recorded: Output, read: Callable[[Path, Output], bytes]) -> None:
    with pytest.raises(RunError, match=r"none.bin: is missing; run `cemiface made` again"):
        read(tmp_path / "none.bin", recorded)


def test_a_descriptor_stays_with_the_file_that_was_checked(tmp_path: Path, recorded: Output) -> None:
    with os.fdopen(open_certified(tmp_path / "data.bin", recorded, remedy=REMEDY), "rb") as file:
        publish(tmp_path / "data.bin", b"planted bytes!", replace=True)
        assert file.read() == b"recorded bytes"


@pytest.mark.parametrize("kind", ["link", "fifo", "folder", "device", "socket"])
def test_nothing_but_a_regular_file_is_opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    path = tmp_path / kind
    if kind == "link":
        path.symlink_to("/etc/hostname")
    elif kind == "fifo":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    elif kind == "device":
        path = Path("/dev/null")
    else:
        monkeypatch.chdir(tmp_path)  # paths of sockets are short
        socket.socket(socket.AF_UNIX).bind("socket")
    with pytest.raises(NotRegularError, match="is not a regular file"):
        open_regular(path)


def test_folders_below_a_given_one_are_not_followed_either(tmp_path: Path) -> None:
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "a.tar").write_bytes(b"private")
    (tmp_path / "set" / "own").mkdir(parents=True)
    (tmp_path / "set" / "own" / "b.tar").write_bytes(b"public")
    (tmp_path / "set" / "in").symlink_to("../outside")
    below = tmp_path / "set"
    assert read_regular(below / "own" / "b.tar", below=below) == b"public"
    with pytest.raises(NotRegularError):
        read_regular(below / "in" / "a.tar", below=below)
    with pytest.raises(FileNotFoundError):
        read_regular(below / "own" / "c.tar", below=below)
