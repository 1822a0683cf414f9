"""The ranks of a training on this machine: if one dies, wherever it is, all end within seconds and start again."""
# ruff: noqa: N802

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from slurm.locks import locked
from slurm.processes import is_alive
from slurm.run_folder import StageFolder

from ..commands import SECONDS, Project, wait_until

STAGE, LONGER = "train-diffusion", "train-diffusion.images=160"
TWO_RANKS = "array: {ranks: 2}\ntrain: {ranks_per_node: 2, cpus: 1}\n"


@pytest.fixture
def project(tiny_run: Any, tmp_path: Path) -> Iterator[Project]:
    """A copy of the tiny run whose training is to be done; no process of it stays, however a test ends."""
    project = Project.copy_of(tiny_run, tmp_path / "project")
    project.forget(STAGE)
    yield project
    for process in project.processes():
        with suppress(ProcessLookupError):
            os.kill(process, signal.SIGKILL)


def _ranks(project: Project) -> dict[int, int]:
    """The process ids of the ranks at work, from their first instruction on: a rank may not have a heartbeat yet."""
    found = {}
    for pid in project.processes():
        with suppress(OSError):
            variables = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
            rank = next((line for line in variables if line.startswith(b"SUBMITIT_LOCAL_GLOBALID=")), None)
            if rank is not None:
                found[int(rank.partition(b"=")[2])] = pid
    return found


def _started(project: Project) -> bool:
    return len(_ranks(project)) == 2


def _meeting(project: Project) -> bool:
    """Rank 0 listens, and rank 1 has not come yet: it is stopped."""
    ranks = _ranks(project)
    if 1 in ranks:
        os.kill(ranks[1], signal.SIGSTOP)
    return len(ranks) == 2 and (project.runs / STAGE / "beats" / "rendezvous").exists()


def _training(project: Project) -> bool:
    return project.trained(STAGE) >= 16 and len(project.heartbeats(STAGE)) == 2


def _end(launcher: subprocess.Popen[str]) -> str:
    _, output = launcher.communicate(timeout=SECONDS)
    assert launcher.returncode == 0, output
    assert f"{STAGE}: finished" in output
    assert "Traceback" not in output
    return output


KILLS = [
    pytest.param(_started, 0, marks=pytest.mark.long, id="started-0"),
    pytest.param(_started, 1, marks=pytest.mark.long, id="started-1"),
    pytest.param(_meeting, 0, marks=pytest.mark.long, id="meeting-0"),
    pytest.param(_meeting, 1, id="meeting-1"),
    pytest.param(_training, 0, marks=pytest.mark.long, id="training-0"),
    pytest.param(_training, 1, id="training-1"),
]


@pytest.mark.parametrize(("moment", "victim"), KILLS)
def test_F38_F39_a_rank_that_is_killed_ends_the_others_and_all_start_again(
    project: Project, moment: Callable[[Project], bool], victim: int
) -> None:
    launcher = project.start(STAGE, LONGER, cluster=TWO_RANKS)
    wait_until(lambda: moment(project), what=moment.__name__)
    first = _ranks(project)
    os.kill(first[victim], signal.SIGKILL)
    if moment is _meeting and victim == 0:
        os.kill(first[1], signal.SIGCONT)
    output = _end(launcher)
    told = f"{STAGE} rank {victim}: exited without a reason (killed, or out of memory?)"
    assert output.count(told) == 1
    assert output.count("start again from the last checkpoint") == 1
    assert not any(is_alive(pid) for pid in first.values())
    assert project.summary(STAGE)["figures"]["world_size"] == 2


@pytest.mark.long
@pytest.mark.parametrize("waiting", [1, 0])
def test_F11_a_stop_reaches_a_group_of_which_one_rank_waits_for_its_lock(project: Project, waiting: int) -> None:
    """The others wait for that rank: none of them is killed, or left behind."""
    lock = StageFolder(project.runs / STAGE).rank_lock(waiting)
    with locked(lock, stop=None):
        launcher = project.start(STAGE, LONGER, cluster=TWO_RANKS)
        notes = ["waits for rank 0", "waits for an older attempt of this rank to end: "]
        if waiting == 1:
            notes[0] = "waits for other ranks: 1 of 2 are here"
        wait_until(lambda: _notes(project, waiting) == tuple(notes), what="both ranks wait")
        launcher.send_signal(signal.SIGTERM)
        launcher.communicate(timeout=SECONDS)
        assert launcher.returncode == 130
        ends = [(heartbeat["state"], heartbeat["reason"]) for heartbeat in project.heartbeats(STAGE)]
        assert ends == [("stopped", "SIGTERM")] * 2
        assert project.processes() == []
    _end(project.start(STAGE, LONGER, cluster=TWO_RANKS))


def _notes(project: Project, waiting: int) -> tuple[str, ...]:
    """What the other rank waits for, and what the rank `waiting` waits for, without the process that holds its lock."""
    found = {beat["rank"]: beat.get("note") or "" for beat in project.heartbeats(STAGE)}
    return found.get(1 - waiting, ""), found.get(waiting, "").partition("process ")[0]


@pytest.mark.long
def test_F38_a_rank_that_hangs_beside_a_dead_one_is_killed(project: Project) -> None:
    """It does not hear SIGTERM: it is stopped, as in a driver's call that does not return."""
    launcher = project.start(STAGE, LONGER, cluster=TWO_RANKS)
    wait_until(lambda: _training(project), what="both ranks train")
    first = _ranks(project)
    os.kill(first[0], signal.SIGSTOP)
    os.kill(first[1], signal.SIGKILL)
    output = _end(launcher)
    assert f"{STAGE} rank 1: exited without a reason" in output
    assert f"{STAGE} rank 0: exited" not in output  # we killed that one
    assert not any(is_alive(pid) for pid in first.values())


def test_F18_a_group_that_is_killed_again_and_again_before_it_saves_is_given_up(project: Project) -> None:
    launcher = project.start(STAGE, LONGER, cluster=TWO_RANKS)
    killed: set[int | None] = {None}
    for _ in range(3):
        wait_until(lambda: _ranks(project).get(1) not in killed, what="another attempt")
        victim = _ranks(project)[1]
        killed.add(victim)
        os.kill(victim, signal.SIGKILL)
    _, output = launcher.communicate(timeout=SECONDS)
    assert launcher.returncode == 1, output
    assert f"cemiface: {STAGE} rank 1: exited without a reason (killed, or out of memory?)" in output
    assert output.count("start again from the last checkpoint") == 2
    assert project.processes() == []


@pytest.mark.long
def test_F19_no_rank_is_left_when_the_launcher_and_another_rank_are_killed_before_they_meet(project: Project) -> None:
    launcher = project.start(STAGE, LONGER, cluster=TWO_RANKS)
    wait_until(lambda: _meeting(project), what="rank 0 waits for rank 1")
    launcher.kill()
    os.kill(_ranks(project)[1], signal.SIGKILL)
    launcher.communicate(timeout=SECONDS)
    wait_until(lambda: project.processes() == [], what="no process left")  # rank 0 would have waited ten minutes
    assert project.run(STAGE, LONGER, cluster=TWO_RANKS).returncode == 0


def test_the_output_and_the_heartbeats_of_every_rank_are_where_they_are_looked_for(project: Project) -> None:
    launcher = project.start(STAGE, "train-diffusion.images=100000", cluster=TWO_RANKS)
    wait_until(lambda: _training(project), what="both ranks train")
    jobs = {heartbeat["job"] for heartbeat in project.heartbeats(STAGE)}
    for rank in (0, 1):
        (project.runs / STAGE / "logs" / f"{rank:05d}.log").unlink()
        shown = project.run("logs", STAGE, str(rank))
        assert shown.returncode == 0, shown.stderr
        assert "resumed after" in shown.stdout or "Starting with" in shown.stdout
    launcher.send_signal(signal.SIGUSR2)  # as an allocation does before its time limit; they save, too
    launcher.communicate(timeout=SECONDS)
    assert launcher.returncode == 130
    assert len(jobs) == 1
    assert [heartbeat["state"] for heartbeat in project.heartbeats(STAGE)] == ["stopped"] * 2
