"""The verdict on a rank, for what heartbeat, Slurm and process table can say together."""
# ruff: noqa: N802

from __future__ import annotations

from typing import Any

import pytest

from jobs.watch.rank_states import SECONDS_LOST, SECONDS_SILENT, Evidence, RankState, by_cause, judge, minutes
from slurm.queue import Task


def _beat(state: str = "running", **more: Any) -> dict[str, Any]:
    return {"rank": 7, "state": state, "host": "c1", "pid": 12, "job": "13_7", "restarts": 0, "time": 100.0, **more}


def _task(state: str, **more: Any) -> Task:
    return Task(**{"job": "13", "index": 7, "state": state, **more})


def _rank(**evidence: Any) -> RankState:
    return judge(7, Evidence(**{"beat": None, "submitted": "task" in evidence, **evidence}))


@pytest.mark.parametrize(
    ("beat", "task", "state", "reason"),
    [
        (None, _task("PENDING", reason="Priority"), "queued", "Priority: waits its turn"),
        (None, _task("PENDING", reason="QOSMaxCpuPerUserLimit"), "queued", "QOSMaxCpuPerUserLimit"),
        (None, _task("PENDING", reason="DependencyNeverSatisfied"), "queued", "never starts: a job before it failed"),
        (None, _task("PENDING", reason="JobHeldUser"), "queued", "`scontrol release 13_7`"),
        (_beat("stopped"), _task("PENDING", reason="BeginTime", restarts=2), "queued", "restarted 2 x, BeginTime"),
        (_beat("failed"), _task("PENDING"), "queued", "PENDING"),
        (None, _task("RUNNING"), "running", "starting"),
        (_beat("stopped"), _task("RUNNING", restarts=1), "running", "starting"),
        (_beat("done", job="6"), _task("RUNNING"), "running", "starting"),  # that was the canary
        (_beat(), _task("RUNNING"), "running", ""),
        (_beat(), _task("SUSPENDED"), "running", "suspended"),
        (_beat("done"), _task("RUNNING"), "done", ""),  # others of its task are at work
        (_beat("done"), _task("COMPLETED"), "done", ""),
        (_beat("failed", reason="bad tar"), _task("FAILED", exit=1), "failed", "bad tar"),
        (_beat("stopped", reason="SIGTERM"), _task("CANCELLED"), "stopped", "canceled, its work is saved"),
        (_beat("stopped", reason="SIGTERM"), _task("TIMEOUT"), "stopped", "was asked to stop (SIGTERM)"),
        (_beat(), _task("CANCELLED"), "stopped", "canceled"),
        (None, _task("CANCELLED"), "stopped", "canceled"),
        (_beat(), _task("TIMEOUT"), "failed", "out of time before its work was saved; raise array.minutes"),
        (_beat(), _task("NODE_FAIL", node="c3"), "lost", "its node c3 failed"),
        (_beat(), _task("PREEMPTED"), "lost", "preempted and not put back into the queue"),
        (_beat(), _task("FAILED", exit=3), "lost", "ended without a word (Slurm: FAILED, exit 3, signal 0)"),
        (_beat(restarts=1), _task("NODE_FAIL", node="c3", restarts=1), "lost", "its node c3 failed"),
        (_beat("failed", job="5_7"), _task("NODE_FAIL", node="c3"), "lost", "its node c3 failed"),  # of a job before
        (_beat(), _task("A_STATE_OF_TOMORROW"), "lost", "A_STATE_OF_TOMORROW"),
    ],
)
def test_slurms_word_and_the_heartbeat_give_one_state(
    beat: dict[str, Any] | None, task: Task, state: str, reason: str
) -> None:
    verdict = _rank(beat=beat, task=task)
    assert verdict.state == state
    assert reason in verdict.reason
    assert bool(verdict.reason) == bool(reason)


@pytest.mark.parametrize(
    ("task", "state", "reason"),
    [
        (_task("OUT_OF_MEMORY", signal=125), "failed", "out of memory; raise array.memory_gb in the cluster file"),
        (_task("FAILED", signal=9), "lost", "killed (out of memory? then raise array.memory_gb in the cluster file)"),
        (_task("FAILED", exit=137), "lost", "killed (out of memory? then raise array.memory_gb in the cluster file)"),
    ],
)
def test_F38_out_of_memory_is_named_with_a_remedy(task: Task, state: str, reason: str) -> None:
    verdict = _rank(beat=_beat(), task=task)
    assert (verdict.state, verdict.reason, verdict.exit) == (state, reason, 137)
    assert "train.memory_gb" in _rank(beat=_beat(), task=task, distributed=True).reason


@pytest.mark.parametrize(
    ("evidence", "state", "reason"),
    [
        ({"beat": _beat(), "submitted": True}, "lost", "unknown to Slurm, and it did not tell of its end"),
        ({"beat": None, "submitted": True}, "unknown", "never heard of, and unknown to Slurm"),
        ({"beat": None, "submitted": True, "silence": "there is no squeue here"}, "unknown", "there is no squeue here"),
        ({"beat": _beat(), "submitted": True, "silence": "there is no squeue here"}, "running", ""),
        ({"beat": _beat("done"), "submitted": True}, "done", ""),
        ({"beat": _beat("failed", reason="bad tar"), "submitted": True}, "failed", "bad tar"),
        ({"beat": _beat(), "alive": True}, "running", ""),
        ({"beat": _beat(), "alive": True, "submitted": True}, "running", ""),
        ({"beat": _beat(), "alive": False}, "lost", "its process is gone without a word (killed, or out of memory?)"),
        ({"beat": _beat(), "silent": 10.0}, "running", ""),
    ],
)
def test_F26_without_slurms_word_heartbeat_and_process_decide(
    evidence: dict[str, Any], state: str, reason: str
) -> None:
    verdict = _rank(**evidence)
    assert verdict.state == state
    assert reason in verdict.reason
    assert bool(verdict.reason) == bool(reason)


def test_F32_a_silent_rank_is_given_up_only_where_nobody_else_can_be_asked() -> None:
    long = SECONDS_LOST + 1
    assert _rank(beat=_beat(), silent=SECONDS_SILENT + 1).reason == "silent for 5 min"
    assert _rank(beat=_beat(), silent=long).state == "lost"
    for known in ({"alive": True}, {"task": _task("RUNNING")}):
        verdict = _rank(beat=_beat(), silent=long, **known)
        assert (verdict.state, verdict.reason) == ("running", "silent for 30 min")


def test_restarts_are_counted_by_how_the_attempts_ended() -> None:
    told = _beat(attempts={"stopped": 2, "lost": 1, "failed": 0}, restarts=3)
    assert _rank(beat=told).restarts == {"stopped": 2, "lost": 1}
    assert _rank(task=_task("RUNNING", restarts=2)).restarts == {"restarted": 2}
    accounted = _task("RUNNING", earlier=("PREEMPTED", "NODE_FAIL", "PREEMPTED"))
    assert _rank(task=accounted).restarts == {"preempted": 2, "node_fail": 1}
    assert _rank(beat=_beat()).restarts == {}
    before = _beat("stopped", attempts={"lost": 1}, restarts=1)  # of the attempt before the one that waits
    assert _rank(beat=before, task=_task("PENDING", restarts=2)).restarts == {"lost": 1, "stopped": 1}


def test_the_exit_code_is_the_ranks_own_or_slurms() -> None:
    assert _rank(beat=_beat("stopped", exit=75), task=_task("FAILED", exit=1)).exit == 75
    assert _rank(task=_task("FAILED", exit=3)).exit == 3
    assert _rank(task=_task("RUNNING")).exit is None
    assert _rank(beat=_beat()).exit is None


def test_F39_the_cause_stands_before_the_ranks_it_took_along() -> None:
    """One rank dies without a word; its partners then fail in a collective, one after the other."""
    ranks = [
        judge(0, Evidence(beat=_beat("failed", time=30.0))),
        judge(1, Evidence(beat=_beat("failed", time=20.0))),
        judge(2, Evidence(beat=_beat(time=10.0), alive=False)),
        judge(3, Evidence(beat=_beat("done"))),
    ]
    assert [rank.rank for rank in by_cause(ranks)] == [2, 1, 0]


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.4, "0 s"), (119.0, "119 s"), (300.0, "5 min"), (9000.0, "2 h"), (3e5, "3 days")]
)
def test_lengths_of_time_are_told_in_fitting_units(seconds: float, text: str) -> None:
    assert minutes(seconds) == text
