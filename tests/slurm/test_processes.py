"""What is known of a process of this host, and of the signals and the worker of the present one."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from slurm.partial_files import OWNER, partial_path, sweep
from slurm.processes import is_alive, started_at
from slurm.ranks.stop import SIGNALS, StopFlag, Stopped, interrupts_held
from slurm.ranks.worker import Worker, slurm_job, this_host, this_worker

NO_PROCESS = 2**22 + 1  # above every process id


@pytest.fixture
def handlers() -> Iterator[None]:
    """Signal handlers and mask are put back after the test."""
    before = {number: signal.getsignal(number) for number in SIGNALS}
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, ())
    yield
    signal.pthread_sigmask(signal.SIG_SETMASK, mask)
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.fixture
def outside_slurm(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith(("SLURM", "SUBMITIT", "CEMIFACE"))]:
        monkeypatch.delenv(name)


def test_this_process_is_alive_and_began_after_its_parent_and_before_now() -> None:
    ours, parents = started_at(os.getpid()), started_at(os.getppid())
    assert is_alive(os.getpid())
    assert ours is not None
    assert parents is not None
    assert 0 < parents <= ours <= time.time() + 2


def test_a_process_that_does_not_exist_is_not_alive_and_has_no_start() -> None:
    assert not is_alive(NO_PROCESS)
    assert started_at(NO_PROCESS) is None


@pytest.mark.parametrize("name", ["a) Z (b", "x y", ")", "Z"])
def test_the_name_of_a_process_is_not_taken_for_its_state(name: str) -> None:
    comm, start = Path("/proc/self/comm"), started_at(os.getpid())
    before = comm.read_text()
    comm.write_text(name)
    try:
        assert is_alive(os.getpid())
        assert started_at(os.getpid()) == start
    finally:
        comm.write_text(before)


def test_a_partial_file_names_its_writer_and_no_two_are_the_same(tmp_path: Path) -> None:
    names = {partial_path(tmp_path / "a-1.tar").name for _ in range(50)}
    assert len(names) == 50
    for name in names:
        owner = OWNER.fullmatch(name)
        assert owner is not None
        assert int(owner["pid"]) == os.getpid()


def test_with_all_hosts_the_files_of_other_hosts_are_swept_but_not_of_running_processes(tmp_path: Path) -> None:
    ours = partial_path(tmp_path / "ours")
    other = tmp_path / ".a.tar@elsewhere-1-00000000.part"
    for path in (ours, other):
        path.touch()
    assert sweep(tmp_path) == []
    assert sweep(tmp_path, all_hosts=True) == [other.name]
    assert list(tmp_path.iterdir()) == [ours]


def test_interrupts_inside_the_block_are_delivered_once_after_it(handlers: None) -> None:
    received: list[int] = []
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda number, frame: received.append(number))
    with interrupts_held():
        os.kill(os.getpid(), signal.SIGTERM)
        os.kill(os.getpid(), signal.SIGINT)
        assert received == []
    assert sorted(received) == [signal.SIGINT, signal.SIGTERM]


def test_interrupts_are_held_back_also_when_the_block_fails(handlers: None) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    with pytest.raises(ZeroDivisionError), interrupts_held():
        raise ZeroDivisionError
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_IGN
    assert signal.SIGTERM not in signal.pthread_sigmask(signal.SIG_BLOCK, ())


@pytest.mark.parametrize("number", SIGNALS)
def test_a_signal_sets_the_flag_to_its_name(handlers: None, number: signal.Signals) -> None:
    stop = StopFlag().listen()
    stop.check()
    assert not stop.due()
    signal.raise_signal(number)
    assert stop.due()
    assert (stop.reason or "").partition(":")[0] == number.name
    with pytest.raises(Stopped, match=number.name):
        stop.check()


@pytest.mark.parametrize("number", [signal.SIGHUP, signal.SIGINT])
def test_what_is_ignored_from_the_start_is_not_heard(handlers: None, number: signal.Signals) -> None:
    """As with `nohup`, and in the background of a script."""
    signal.signal(number, signal.SIG_IGN)
    with interrupts_held():
        assert signal.getsignal(number) is signal.SIG_IGN  # what a rank is started with in the block
    stop = StopFlag().listen()
    signal.raise_signal(number)
    assert not stop.due()
    signal.raise_signal(signal.SIGTERM)
    assert stop.reason == "SIGTERM"


def test_a_signal_that_was_blocked_before_listening_is_not_lost(handlers: None) -> None:
    signal.signal(signal.SIGUSR2, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
    signal.pthread_kill(threading.get_ident(), signal.SIGUSR2)  # other threads of the tests do not block it
    assert StopFlag().listen().reason == "SIGUSR2"


def test_the_first_reason_to_stop_is_kept() -> None:
    stop = StopFlag()
    stop.ask("the launcher is gone")
    stop.ask("SIGTERM")
    assert stop.reason == "the launcher is gone"


@pytest.mark.parametrize(
    ("variables", "job"),
    [
        ({}, None),
        ({"SLURM_JOB_ID": "12"}, "12"),
        ({"SLURM_JOB_ID": "14", "SLURM_ARRAY_JOB_ID": "12", "SLURM_ARRAY_TASK_ID": "0"}, "12_0"),
        ({"SLURM_JOB_ID": "14", "SLURM_ARRAY_JOB_ID": "12"}, "14"),
        ({"SLURM_JOB_ID": "14", "SLURM_ARRAY_JOB_ID": "", "SLURM_ARRAY_TASK_ID": ""}, "14"),
    ],
)
def test_a_job_has_the_id_that_slurms_commands_take(
    outside_slurm: None, monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], job: str | None
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert slurm_job() == job
    assert this_worker(3).job == job


def test_the_worker_of_a_local_job_has_its_id_its_host_and_no_restarts(
    outside_slurm: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SUBMITIT_LOCAL_JOB_ID", "77")
    monkeypatch.setenv("SLURM_RESTART_COUNT", "")
    worker = this_worker(3)
    assert worker == Worker(rank=3, host=this_host(), pid=os.getpid(), job="77")
    assert worker.process == (3, this_host(), os.getpid())
    monkeypatch.setenv("SLURM_RESTART_COUNT", "2")
    monkeypatch.setenv("SLURMD_NODENAME", "node7")
    monkeypatch.setenv("CEMIFACE_CODE", "0123456789ab")
    again = this_worker(3)
    assert (again.restarts, again.host, again.code) == (2, "node7", "0123456789ab")
    assert again.process != worker.process


@pytest.mark.parametrize("value", [None, [], "c1", {}, {"rank": 1, "host": "c1"}, {"rank": "x", "host": "c", "pid": 1}])
def test_what_is_no_worker_is_read_as_none(value: object) -> None:
    assert Worker.from_json(value) is None
    assert Worker.from_json({"rank": 1, "host": "c1", "pid": 2, "shoe": 9}) == Worker(rank=1, host="c1", pid=2)
