"""Lock files keep two attempts apart, and a file system without locks makes none of them wait."""

from __future__ import annotations

import errno
import fcntl
import os
import stat
from pathlib import Path

import pytest

from slurm.locks import claim, locked
from slurm.ranks.launcher import running_launcher
from slurm.ranks.stop import StopFlag, Stopped
from slurm.run_folder import StageFolder


def _asked(reason: str) -> StopFlag:
    stop = StopFlag()
    stop.ask(reason)
    return stop


def test_a_lock_is_held_inside_the_block_and_free_after_it(tmp_path: Path) -> None:
    path = tmp_path / "new" / "x.lock"
    with locked(path, stop=None), pytest.raises(Stopped, match="SIGTERM"), locked(path, stop=_asked("SIGTERM")):
        pytest.fail("two holders")
    with locked(path, stop=_asked("SIGTERM")):  # free: the stop is for the work to notice
        pass


def test_a_block_that_fails_frees_the_lock(tmp_path: Path) -> None:
    path = tmp_path / "x.lock"
    with pytest.raises(ZeroDivisionError), locked(path, stop=None):
        raise ZeroDivisionError
    with locked(path, stop=_asked("would not wait")):
        pass


def test_who_waits_is_told_again_and_again_what_holds_the_lock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLURMD_NODENAME", "c7")
    monkeypatch.setenv("SLURM_JOB_ID", "12")
    stage, stop = StageFolder(tmp_path / "generate"), StopFlag()
    told: list[str] = []

    def waits(text: str) -> None:
        told.append(text)
        if len(told) == 2:
            stop.ask("SIGTERM")

    with claim(stage, 3, stop=None), pytest.raises(Stopped), claim(stage, 3, stop=stop, waiting=waits):
        pytest.fail("two holders")
    assert len(told) == 2
    for text in told:
        assert text.startswith("waits for an older attempt of this rank to end: ")
        assert f"process {os.getpid()} on c7" in text
        assert text.endswith("holds 00003.lock")


def test_a_file_server_that_answers_a_held_lock_with_no_access_makes_wait(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def held(*arguments: object) -> None:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    monkeypatch.setattr(fcntl, "flock", held)
    with pytest.raises(Stopped), locked(tmp_path / "x.lock", stop=_asked("SIGTERM")):
        pytest.fail("two holders")


def test_each_rank_has_a_lock_of_its_own(tmp_path: Path) -> None:
    stage = StageFolder(tmp_path / "generate")
    with claim(stage, 0, stop=None), claim(stage, 1, stop=_asked("would not wait")):
        with pytest.raises(Stopped), claim(stage, 0, stop=_asked("SIGUSR1")):
            pytest.fail("two holders")
        assert sorted(path.name for path in stage.heartbeats.iterdir()) == ["00000.lock", "00001.lock"]


def test_locks_are_for_their_owner_only(tmp_path: Path) -> None:
    with locked(tmp_path / "x.lock", stop=None):
        assert stat.S_IMODE((tmp_path / "x.lock").stat().st_mode) & 0o077 == 0


def test_no_descriptor_is_left_open(tmp_path: Path) -> None:
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(3):
        with locked(tmp_path / "x.lock", stop=None):
            assert len(os.listdir("/proc/self/fd")) == before + 1
            with pytest.raises(Stopped), locked(tmp_path / "x.lock", stop=_asked("x")):
                pytest.fail("two holders")
    assert len(os.listdir("/proc/self/fd")) == before


def test_where_files_cannot_be_locked_nothing_waits_and_no_launcher_is_seen(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_locks(*arguments: object) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(fcntl, "flock", no_locks)
    path = tmp_path / "x.lock"
    with locked(path, stop=None), locked(path, stop=_asked("would not wait")):
        assert running_launcher(path) is None


def test_a_lock_held_by_this_process_names_it_and_a_free_one_names_none(tmp_path: Path) -> None:
    path = tmp_path / ".launch.lock"
    with locked(path, stop=None):
        path.write_text(f"{os.getpid()}\n")
        found = running_launcher(path)
        assert found is not None
        assert found.pid == os.getpid()
        for text in ("", "pid 12", "-1", "\xff"):
            path.write_text(text, encoding="latin-1")
            found = running_launcher(path)
            assert found is not None
            assert found.pid is None
    assert running_launcher(path) is None
