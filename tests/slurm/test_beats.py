"""Heartbeats tell what ranks do; locks keep an older attempt and its successor apart."""
# ruff: noqa: N802

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from slurm.errors import RunError
from slurm.heartbeats import MOST_FRUITLESS, Beat, claim, read_beats, this_worker
from slurm.run_folder import StageFolder
from slurm.stop import StopFlag, Stopped

SECONDS = 300.0  # for what another process has to do; a moment on a quiet machine


@pytest.fixture
def stage(tmp_path: Path) -> StageFolder:
    return StageFolder(tmp_path / "generate")


def test_a_beat_tells_state_images_and_worker(stage: StageFolder) -> None:
    beat = Beat(stage, 3, worker={"pid": 12})
    beat.update(images=5)
    (value,) = read_beats(stage)
    assert (value["rank"], value["pid"], value["state"], value["images"]) == (3, 12, "running", 5)


def test_beats_are_rare_but_a_change_of_state_is_told_at_once(
    stage: StageFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("slurm.heartbeats.SECONDS_BETWEEN_BEATS", 3600.0)
    beat = Beat(stage, 0, worker={})
    for images in range(100):
        beat.update(images=images)
    assert read_beats(stage)[0]["images"] == 0
    beat.update(state="done")
    (value,) = read_beats(stage)
    assert (value["state"], value["images"]) == ("done", 99)


def test_beats_are_read_by_rank_and_damaged_ones_left_out(stage: StageFolder) -> None:
    assert read_beats(stage) == []
    for rank in (10, 2):
        Beat(stage, rank, worker={}).update()
    stage.beat(1).write_text('{"rank": 1')
    stage.beat(4).write_text("[]")
    assert [beat["rank"] for beat in read_beats(stage)] == [2, 10]


def test_B53_the_worker_is_told_by_slurm_where_there_is_one(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"SLURMD_NODENAME": "c7", "SLURM_JOB_ID": "52", "SLURM_RESTART_COUNT": "2"}.items():
        monkeypatch.setenv(name, value)
    worker = this_worker()
    assert (worker["host"], worker["job"], worker["restarts"]) == ("c7", "52", 2)


def _attempt(stage: StageFolder, *, ends: str, landmark: str | None = None, **worker: object) -> Beat:
    beat = Beat(stage, 0, worker={"host": "c1", **worker}, landmark=landmark)
    beat.update(state="running")
    beat.update(state=ends)
    return beat


def test_attempts_are_counted_by_how_they_ended(stage: StageFolder) -> None:
    for ends in ("stopped", "running", "stopped", "failed"):
        _attempt(stage, ends=ends)
    _attempt(stage, ends="done")
    assert read_beats(stage)[0]["attempts"] == {"stopped": 2, "lost": 1, "failed": 1}


def test_F18_a_rank_that_is_lost_again_and_again_without_progress_gives_up(stage: StageFolder) -> None:
    for _ in range(MOST_FRUITLESS["lost"]):
        _attempt(stage, ends="running").refuse_to_spin()
    with pytest.raises(RunError, match=r"3 attempts in a row were lost .* \(on c1, c1, c1\).*exclude:"):
        Beat(stage, 0, worker={"host": "c2"}).refuse_to_spin()


def test_F18_attempts_that_get_something_done_may_be_preempted_for_ever(stage: StageFolder) -> None:
    for number in range(2 * MOST_FRUITLESS["stopped"]):
        beat = Beat(stage, 0, worker={"host": "c1"})
        beat.refuse_to_spin()
        beat.update(landmark=f"unit {number}")
        beat.update(state="stopped")
    assert read_beats(stage)[0]["attempts"] == {"stopped": 2 * MOST_FRUITLESS["stopped"] - 1}


def test_F18_of_a_training_the_newest_checkpoint_tells_whether_it_got_on(stage: StageFolder) -> None:
    for number in range(2 * MOST_FRUITLESS["lost"]):
        _attempt(stage, ends="running", landmark=f"step-{number}").refuse_to_spin()
    for _ in range(MOST_FRUITLESS["lost"]):
        beat = _attempt(stage, ends="running", landmark="step-5")
    with pytest.raises(RunError, match="lost before they got anything done"):
        beat.refuse_to_spin()


def test_F09_an_attempt_that_was_given_up_yields_to_its_successor(stage: StageFolder) -> None:
    stop = StopFlag()
    old = Beat(stage, 0, worker={"job": "7", "restarts": 0}, stop=stop)
    old.update(state="running")
    Beat(stage, 0, worker={"job": "7", "restarts": 1}).update(state="running", images=5)
    old.update(state="done", images=9)
    assert old.superseded
    assert stop.reason == "a newer attempt of this rank is at work"
    assert (read_beats(stage)[0]["restarts"], read_beats(stage)[0]["images"]) == (1, 5)


HOLDS = """
import sys
from pathlib import Path
from slurm.heartbeats import claim
from slurm.run_folder import StageFolder
from slurm.stop import StopFlag
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


def test_F09_a_rank_waits_for_an_older_attempt_and_goes_on_when_it_is_killed(stage: StageFolder) -> None:
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


def test_beats_are_json_that_other_tools_can_read(stage: StageFolder) -> None:
    Beat(stage, 0, worker=this_worker()).update(note="loss 0.1234")
    assert json.loads(stage.beat(0).read_text())["note"] == "loss 0.1234"
