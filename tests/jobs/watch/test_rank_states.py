"""The state of a rank, for every combination of heartbeat, Slurm and process table."""
# ruff: noqa: N802

from __future__ import annotations

from typing import Any

import pytest

from jobs.watch.rank_states import SECONDS_LOST, SECONDS_SILENT, RankFacts, RankState, by_cause, state_of
from jobs.watch.task_reasons import duration
from slurm.ranks.heartbeats import Heartbeat
from slurm.submission.queue import Task


def _beat(state: str = "running", **more: Any) -> Heartbeat:
    fields = {"rank": 7, "state": state, "host": "c1", "pid": 12, "job": "13_7", "restarts": 0, "time": 100.0, **more}
    heartbeat = Heartbeat.from_json(fields)
    assert heartbeat is not None
    return heartbeat


def _task(state: str, **more: Any) -> Task:
    return Task(**{"job": "13", "index": 7, "state": state, **more})


def _rank(**facts: Any) -> RankState:
    return state_of(7, RankFacts(**{"heartbeat": None, "submitted": "task" in facts, **facts}))


@pytest.mark.parametrize(
    ("heartbeat", "task", "state", "reason"),
    [
        (None, _task("PENDING", reason="Priority"), "queued", "Priority: jobs of higher priority come first"),
        (None, _task("PENDING", reason="QOSMaxCpuPerUserLimit"), "queued", "QOSMaxCpuPerUserLimit"),
        (None, _task("PENDING", reason="DependencyNeverSatisfied"), "held", "an earlier job failed"),
        (None, _task("PENDING", reason="JobHeldUser"), "held", "`scontrol release 13_7`"),
        (None, _task("REQUEUE_HOLD", reason="BeginTime"), "held", "`scontrol release 13_7`"),
        (_beat("stopped"), _task("PENDING", reason="JobHeldAdmin", restarts=1), "held", "restarted 1 x, JobHeldAdmin"),
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
        (_beat(), _task("PREEMPTED"), "lost", "preempted and not requeued"),
        (_beat(), _task("FAILED", exit=3), "lost", "ended and recorded no reason (Slurm: FAILED, exit 3, signal 0)"),
        (
            _beat(),
            _task("FAILED", exit=74),
            "failed",
            "could not be read or written: is the disk full",
        ),
        (None, _task("FAILED", exit=78), "failed", "a line of `setup` in the cluster file failed"),
        (None, _task("FAILED", exit=75), "stopped", "its work is saved"),
        (_beat(restarts=1), _task("NODE_FAIL", node="c3", restarts=1), "lost", "its node c3 failed"),
        (_beat("failed", job="5_7"), _task("NODE_FAIL", node="c3"), "lost", "its node c3 failed"),  # of a job before
        (_beat(), _task("A_STATE_OF_TOMORROW"), "lost", "A_STATE_OF_TOMORROW"),
    ],
)
def test_slurm_and_the_heartbeat_give_one_state(
    heartbeat: Heartbeat | None, task: Task, state: str, reason: str
) -> None:
    found = _rank(heartbeat=heartbeat, task=task)
    assert found.state == state
    assert reason in found.reason
    assert bool(found.reason) == bool(reason)


@pytest.mark.parametrize(
    ("task", "state", "reason"),
    [
        (_task("OUT_OF_MEMORY", signal=125), "failed", "out of memory; raise array.memory_gb in the cluster file"),
        (_task("FAILED", signal=9), "lost", "killed (out of memory? then raise array.memory_gb in the cluster file)"),
        (_task("FAILED", exit=137), "lost", "killed (out of memory? then raise array.memory_gb in the cluster file)"),
    ],
)
def test_F38_out_of_memory_is_named_with_a_remedy(task: Task, state: str, reason: str) -> None:
    found = _rank(heartbeat=_beat(), task=task)
    assert (found.state, found.reason, found.exit) == (state, reason, 137)
    assert "train.memory_gb" in _rank(heartbeat=_beat(), task=task, distributed=True).reason


@pytest.mark.parametrize(
    ("facts", "state", "reason"),
    [
        ({"heartbeat": _beat(), "submitted": True}, "lost", "unknown to Slurm, and it recorded no end"),
        ({"heartbeat": None, "submitted": True}, "unknown", "no heartbeat, and unknown to Slurm"),
        ({"heartbeat": None, "submitted": True, "no_answer": "there is no squeue"}, "unknown", "there is no squeue"),
        ({"heartbeat": _beat(), "submitted": True, "no_answer": "there is no squeue"}, "running", ""),
        ({"heartbeat": _beat("done"), "submitted": True}, "done", ""),
        ({"heartbeat": _beat("failed", reason="bad tar"), "submitted": True}, "failed", "bad tar"),
        ({"heartbeat": _beat(), "alive": True}, "running", ""),
        ({"heartbeat": _beat(), "alive": True, "submitted": True}, "running", ""),
        ({"heartbeat": _beat(), "alive": False}, "lost", "its process is gone and recorded no reason"),
        ({"heartbeat": _beat(), "silent": 10.0}, "running", ""),
    ],
)
def test_F26_without_an_answer_of_slurm_heartbeat_and_process_decide(
    facts: dict[str, Any], state: str, reason: str
) -> None:
    found = _rank(**facts)
    assert found.state == state
    assert reason in found.reason
    assert bool(found.reason) == bool(reason)


def test_F32_a_rank_without_heartbeats_is_lost_only_if_slurm_cannot_be_asked() -> None:
    long = SECONDS_LOST + 1
    assert _rank(heartbeat=_beat(), silent=SECONDS_SILENT + 1).reason == "no heartbeat for 5 min"
    assert _rank(heartbeat=_beat(), silent=long).state == "lost"
    for known in ({"alive": True}, {"task": _task("RUNNING")}):
        found = _rank(heartbeat=_beat(), silent=long, **known)
        assert (found.state, found.reason) == ("running", "no heartbeat for 30 min")


def test_restarts_are_counted_by_how_the_attempts_ended() -> None:
    heartbeat = _beat(attempts={"stopped": 2, "lost": 1, "failed": 0}, restarts=3)
    assert _rank(heartbeat=heartbeat).restarts == {"stopped": 2, "lost": 1}
    assert _rank(task=_task("RUNNING", restarts=2)).restarts == {"restarted": 2}
    accounted = _task("RUNNING", earlier=("PREEMPTED", "NODE_FAIL", "PREEMPTED"))
    assert _rank(task=accounted).restarts == {"preempted": 2, "node_fail": 1}
    assert _rank(heartbeat=_beat()).restarts == {}
    before = _beat("stopped", attempts={"lost": 1}, restarts=1)  # of the attempt before the one that waits
    assert _rank(heartbeat=before, task=_task("PENDING", restarts=2)).restarts == {"lost": 1, "stopped": 1}


def test_the_exit_code_is_the_ranks_own_or_slurms() -> None:
    assert _rank(heartbeat=_beat("stopped", exit=75), task=_task("FAILED", exit=1)).exit == 75
    assert _rank(task=_task("FAILED", exit=3)).exit == 3
    assert _rank(task=_task("RUNNING")).exit is None
    assert _rank(heartbeat=_beat()).exit is None


def test_F39_the_first_failed_rank_is_listed_before_ranks_that_failed_because_of_it() -> None:
    """One rank dies without a word; its partners then fail in a collective, one after the other."""
    ranks = [
        state_of(0, RankFacts(heartbeat=_beat("failed", time=30.0))),
        state_of(1, RankFacts(heartbeat=_beat("failed", time=20.0))),
        state_of(2, RankFacts(heartbeat=_beat(time=10.0), alive=False)),
        state_of(3, RankFacts(heartbeat=_beat("done"))),
    ]
    assert [rank.rank for rank in by_cause(ranks)] == [2, 1, 0]


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.4, "0 s"), (119.0, "119 s"), (300.0, "5 min"), (9000.0, "2 h"), (3e5, "3 days")]
)
def test_durations_are_shown_in_fitting_units(seconds: float, text: str) -> None:
    assert duration(seconds) == text
