"""Heartbeats report what ranks do; a lock keeps an older attempt and its successor apart."""
# ruff: noqa: N802

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from slurm.errors import RunError
from slurm.locks import claim
from slurm.ranks.heartbeat_writer import MAX_ATTEMPTS_WITHOUT_PROGRESS, HeartbeatWriter
from slurm.ranks.heartbeats import Heartbeat, Since, State, read_heartbeat, read_heartbeats
from slurm.ranks.stop import StopFlag, Stopped
from slurm.ranks.worker import Worker, this_worker
from slurm.run_folder import StageFolder

SECONDS = 300.0  # for what another process has to do; a moment on a quiet machine

# As an older version wrote it, with one key that is unknown now.
ON_DISK = """{"attempts": {"lost": 1}, "code": null, "exit": 75, "fruitless": {"lost": 1}, "host": "c1", "images": 9,
"job": "13_7", "landmark": "unit 3", "nodes": ["c1"], "pid": 12, "rank": 7, "ranks": 8, "reason": "SIGTERM",
"restarts": 1, "since": {"images": 2, "time": 20.0}, "start_landmark": "unit 2", "started": 10.0, "state": "stopped",
"time": 30.0, "unit": 4, "beats_per_minute": 60}"""


@pytest.fixture
def stage(tmp_path: Path) -> StageFolder:
    return StageFolder(tmp_path / "generate")


def _writer(stage: StageFolder, rank: int = 0, **worker: Any) -> HeartbeatWriter:
    return HeartbeatWriter(stage, worker=Worker(**{"rank": rank, "host": "c1", "pid": 12, **worker}))


def _heartbeat(stage: StageFolder) -> Heartbeat:
    (found,) = read_heartbeats(stage)
    return found


def test_a_heartbeat_has_state_images_and_worker(stage: StageFolder) -> None:
    _writer(stage, 3).update(images=5)
    found = _heartbeat(stage)
    assert (found.rank, found.worker.pid, found.state, found.images) == (3, 12, "running", 5)


def test_heartbeats_are_rare_but_a_change_of_state_is_written_at_once(
    stage: StageFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("slurm.ranks.heartbeat_writer.SECONDS_BETWEEN_HEARTBEATS", 3600.0)
    writer = _writer(stage)
    for images in range(100):
        writer.update(images=images)
    assert _heartbeat(stage).images == 0
    writer.update(state="done")
    assert (_heartbeat(stage).state, _heartbeat(stage).images) == ("done", 99)


def test_the_throughput_counts_from_the_first_images_of_the_attempt(stage: StageFolder) -> None:
    writer = _writer(stage)
    writer.update(note="starting")
    assert _heartbeat(stage).since is None
    writer.update(images=4)
    writer.update(images=9, state="stopped")
    since = _heartbeat(stage).since
    assert since is not None
    assert since.images == 4


def test_heartbeats_are_read_by_rank_and_damaged_or_foreign_files_left_out(stage: StageFolder) -> None:
    assert read_heartbeats(stage) == []
    for rank in (10, 2):
        _writer(stage, rank).update()
    whole = json.loads(stage.heartbeat(2).read_text())
    foreign = ['{"rank": 1', "[]", "{}", "null", json.dumps({**whole, "pid": "x"}), json.dumps({**whole, "state": "?"})]
    for rank, text in enumerate(foreign, start=20):
        stage.heartbeat(rank).write_text(text)
        assert read_heartbeat(stage, rank) is None
    assert [found.rank for found in read_heartbeats(stage)] == [2, 10]


def test_a_heartbeat_of_an_older_version_is_understood(stage: StageFolder) -> None:
    stage.heartbeats.mkdir(parents=True)
    stage.heartbeat(7).write_text(ON_DISK)
    assert read_heartbeat(stage, 7) == Heartbeat(
        worker=Worker(rank=7, host="c1", pid=12, job="13_7", restarts=1),
        state="stopped",
        time=30.0,
        started=10.0,
        images=9,
        ranks=8,
        unit=4,
        reason="SIGTERM",
        exit=75,
        since=Since(images=2, time=20.0),
        attempts={"lost": 1},
        without_progress={"lost": 1},
        nodes=("c1",),
        last_saved="unit 3",
        saved_at_start="unit 2",
    )


def test_the_names_in_the_file_are_those_of_older_versions(stage: StageFolder) -> None:
    known = json.loads(ON_DISK)
    del known["beats_per_minute"]
    found = Heartbeat.from_json(known)
    assert found is not None
    assert json.loads(json.dumps(found.as_json())) == known
    _writer(stage).update(images=1)
    fields = set(json.loads(stage.heartbeat(0).read_text()))
    assert fields == known.keys() - {"exit", "ranks", "reason", "unit"}  # those are there once they are set


def test_B53_the_worker_is_named_by_slurm_where_there_is_one(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"SLURMD_NODENAME": "c7", "SLURM_JOB_ID": "52", "SLURM_RESTART_COUNT": "2"}.items():
        monkeypatch.setenv(name, value)
    worker = this_worker(3)
    assert (worker.rank, worker.host, worker.job, worker.restarts) == (3, "c7", "52", 2)


def _attempt(stage: StageFolder, *, ends: State, last_saved: str | None = None) -> HeartbeatWriter:
    writer = HeartbeatWriter(stage, worker=Worker(rank=0, host="c1", pid=12), last_saved=last_saved)
    writer.update(state="running")
    writer.update(state=ends)
    return writer


def test_attempts_are_counted_by_how_they_ended(stage: StageFolder) -> None:
    ends: list[State] = ["stopped", "running", "stopped", "failed", "done"]
    for end in ends:
        _attempt(stage, ends=end)
    assert _heartbeat(stage).attempts == {"stopped": 2, "lost": 1, "failed": 1}


def test_F18_a_rank_that_is_lost_again_and_again_without_progress_gives_up(stage: StageFolder) -> None:
    for _ in range(MAX_ATTEMPTS_WITHOUT_PROGRESS["lost"]):
        _attempt(stage, ends="running").stop_if_no_progress()
    with pytest.raises(RunError, match=r"3 attempts in a row were lost .* \(on c1, c1, c1\).*exclude:"):
        _writer(stage, host="c2").stop_if_no_progress()


def test_F18_attempts_that_save_something_may_be_preempted_forever(stage: StageFolder) -> None:
    for number in range(2 * MAX_ATTEMPTS_WITHOUT_PROGRESS["stopped"]):
        writer = _writer(stage)
        writer.stop_if_no_progress()
        writer.update(last_saved=f"unit {number}")
        writer.update(state="stopped")
    assert _heartbeat(stage).attempts == {"stopped": 2 * MAX_ATTEMPTS_WITHOUT_PROGRESS["stopped"] - 1}


def test_F18_the_progress_of_a_training_is_its_newest_checkpoint(stage: StageFolder) -> None:
    for number in range(2 * MAX_ATTEMPTS_WITHOUT_PROGRESS["lost"]):
        _attempt(stage, ends="running", last_saved=f"step-{number}").stop_if_no_progress()
    for _ in range(MAX_ATTEMPTS_WITHOUT_PROGRESS["lost"]):
        writer = _attempt(stage, ends="running", last_saved="step-5")
    with pytest.raises(RunError, match="lost before they saved anything"):
        writer.stop_if_no_progress()


def test_F09_a_superseded_attempt_yields_to_its_successor(stage: StageFolder) -> None:
    stop = StopFlag()
    old = HeartbeatWriter(stage, worker=Worker(rank=0, host="c1", pid=12, job="7", restarts=0), stop=stop)
    old.update(state="running")
    _writer(stage, job="7", restarts=1).update(state="running", images=5)
    old.update(state="done", images=9)
    assert old.superseded
    assert stop.reason == "a newer attempt of this rank is running"
    assert (_heartbeat(stage).worker.restarts, _heartbeat(stage).images) == (1, 5)


HOLDS = """
import sys
from pathlib import Path
from slurm.locks import claim
from slurm.run_folder import StageFolder
from slurm.ranks.stop import StopFlag
with claim(StageFolder(Path(sys.argv[1])), 0, stop=StopFlag()):
    print("held", flush=True)
    sys.stdin.read()
"""


def _holder(stage: StageFolder) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", HOLDS, str(stage.root)]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdout
    assert process.stdout.readline() == "held\n"
    return process


def test_F09_a_rank_waits_for_an_older_attempt_until_that_is_killed(stage: StageFolder) -> None:
    older = _holder(stage)
    waiting = subprocess.Popen(
        [sys.executable, "-c", HOLDS, str(stage.root)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    with pytest.raises(subprocess.TimeoutExpired):  # a slow machine only makes this easier to pass
        waiting.wait(timeout=0.5)
    older.kill()
    older.wait()
    output, _ = waiting.communicate(timeout=SECONDS)
    assert output == "held\n"


def test_F13_a_rank_that_waits_can_be_asked_to_leave(stage: StageFolder) -> None:
    older = _holder(stage)
    stop = StopFlag()
    stop.reason = "SIGTERM"
    with pytest.raises(Stopped), claim(stage, 0, stop=stop):
        pass
    with claim(stage, 1, stop=stop):  # another rank is free
        pass
    older.communicate(timeout=SECONDS)
    with claim(stage, 0, stop=StopFlag()):
        pass
