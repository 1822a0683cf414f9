"""A stopped Slurm job is requeued, and only where that is right. scontrol is a script here."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import pytest

from slurm.ranks.heartbeat_writer import HeartbeatWriter
from slurm.ranks.requeue import peer_is_lost, requeue_once_saved, requeue_this_job, requeue_without_peer
from slurm.ranks.stop import StopFlag
from slurm.ranks.worker import this_worker
from slurm.run_folder import StageFolder

SECONDS = 300.0  # for what another process has to do; a moment on a quiet machine

SCONTROL = """#!/bin/sh
echo "$@" >> {asked}
[ "$(grep -c . {asked})" -gt {silent} ] || {{ echo "{silence}" >&2; exit 1; }}
if [ "$1" = show ] && [ "$2" = config ]; then echo "KillWait                = {kill_wait} sec"; exit 0; fi
if [ "$1" = show ]; then
  echo "JobId=7 JobName=x"
  echo "   JobState={state} Reason=None"
  echo "   Requeue={requeue} Restarts={restarts} BatchFlag=1"
  exit 0
fi
echo "{refusal}" >&2
exit {code}
"""


@pytest.fixture
def asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """What scontrol was asked; this process is job 7 of a cluster."""
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    monkeypatch.setenv("SLURM_JOB_ID", "7")
    for name in ("SLURM_RESTART_COUNT", "SLURM_ARRAY_JOB_ID", "SLURM_ARRAY_TASK_ID", "SLURM_PROCID"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path / "asked"


class Told:
    """What a rank puts into its heartbeat."""

    def __init__(self) -> None:
        self.heard: list[tuple[str, str | None]] = []

    def hear(self, problem: str, requeue: str | None) -> None:
        self.heard.append((problem, requeue))


TOLD = Told()


def _scontrol(asked: Path, **facts: Any) -> None:
    usual = {"state": "RUNNING", "restarts": 0, "code": 0, "refusal": "", "silent": 0, "requeue": 1, "kill_wait": 30}
    silence = "Unable to contact slurm controller (connect failure)"
    script = asked.parent / "scontrol"
    script.write_text(SCONTROL.format(asked=asked, **{**usual, "silence": silence, **facts}))
    script.chmod(0o755)
    TOLD.heard.clear()


def test_F11_a_running_job_is_requeued_once_under_its_own_id(asked: Path) -> None:  # noqa: N802
    _scontrol(asked)
    assert requeue_this_job(tell=TOLD.hear)
    assert asked.read_text().splitlines() == ["show job 7", "requeue 7"]


@pytest.mark.parametrize("state", ["CANCELLED", "COMPLETING", "FAILED"])
def test_a_job_that_was_canceled_stays_so(asked: Path, state: str) -> None:
    _scontrol(asked, state=state)
    assert not requeue_this_job(tell=TOLD.hear)
    assert "requeue 7" not in asked.read_text()


def test_F20_a_refused_requeue_names_the_remedy(asked: Path, caplog: pytest.LogCaptureFixture) -> None:  # noqa: N802
    _scontrol(asked, code=1, refusal="Requested operation is presently disabled")
    assert not requeue_this_job(tell=TOLD.hear)
    assert "presently disabled; rerun the same command" in caplog.text


@pytest.mark.parametrize(
    "silence",
    [
        "Unable to contact slurm controller (connect failure)",
        "slurm_load_jobs error: Socket timed out on send/recv operation",
        "Zero Bytes were transmitted or received",
    ],
)
def test_while_the_controller_is_silent_the_request_is_repeated_and_the_heartbeat_says_why(
    asked: Path, monkeypatch: pytest.MonkeyPatch, silence: str
) -> None:
    monkeypatch.setattr("slurm.ranks.requeue.SECONDS_BETWEEN_TRIES", (0.01, 0.02))
    _scontrol(asked, silent=3, silence=silence)
    assert requeue_this_job(tell=TOLD.hear)
    assert asked.read_text().splitlines() == ["show job 7"] * 4 + ["requeue 7"]
    assert [requeue for _, requeue in TOLD.heard] == ["waiting"] * 3 + [None]
    assert all(silence in problem for problem, _ in TOLD.heard[:3])


def test_a_controller_that_stays_silent_is_given_up_with_the_reason(
    asked: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("slurm.ranks.requeue.SECONDS_BETWEEN_TRIES", (0.01, 0.02))
    monkeypatch.setattr("slurm.ranks.requeue.SECONDS_OF_SILENCE", 0.2)
    _scontrol(asked, silent=10**6)
    assert not requeue_this_job(tell=TOLD.hear)
    assert TOLD.heard[-1][1] == "refused"
    assert "Unable to contact" in TOLD.heard[-1][0]


def test_a_job_that_was_canceled_while_the_controller_was_silent_stays_so(
    asked: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("slurm.ranks.requeue.SECONDS_BETWEEN_TRIES", (0.01, 0.02))
    _scontrol(asked, silent=2, state="COMPLETING")
    assert not requeue_this_job(tell=TOLD.hear)
    assert "requeue 7" not in asked.read_text()
    assert TOLD.heard[-1] == ("", None)


def test_where_requeueing_is_forbidden_the_reason_is_told_at_once(asked: Path) -> None:
    _scontrol(asked, requeue=0)
    assert not requeue_this_job(tell=TOLD.hear)
    assert TOLD.heard == [("Slurm forbids it for this job (Requeue=0)", "refused")]
    assert "requeue 7" not in asked.read_text()


class Clock:
    """A clock that only waiting advances, so that a busy machine makes no difference."""

    now = 0.0

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


def test_another_refusal_is_repeated_until_shortly_before_slurm_kills(
    asked: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("slurm.ranks.requeue.time", Clock())
    monkeypatch.setattr("slurm.ranks.requeue.SECONDS_BETWEEN_TRIES", (0.01, 0.02))
    monkeypatch.setattr("slurm.ranks.requeue.SECONDS_BEFORE_KILL", 10.8)
    _scontrol(asked, code=1, refusal="Transition in progress", kill_wait=11)
    assert not requeue_this_job(tell=TOLD.hear)
    assert asked.read_text().count("requeue 7") == 11  # pauses of 0.01, then of 0.02 s, for 11 - 10.8 s
    assert asked.read_text().count("show config") == 1
    assert TOLD.heard[-1][1] == "refused"


def test_the_other_ranks_of_a_job_wait_until_the_first_has_given_up(
    asked: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _scontrol(asked)
    monkeypatch.setenv("SLURM_PROCID", "1")
    stage = StageFolder(tmp_path / "generate")
    first, second = (HeartbeatWriter(stage, worker=this_worker(rank)) for rank in (4, 5))
    first.update(state="stopped", requeue="waiting", reason="SIGTERM; not requeued yet: no answer")
    second.update(state="stopped")
    waiting = threading.Thread(target=requeue_once_saved, args=(stage, range(4, 6)), kwargs={"tell": TOLD.hear})
    waiting.start()
    waiting.join(timeout=0.5)
    assert waiting.is_alive()
    first.update(state="stopped", requeue="refused")
    waiting.join(timeout=SECONDS)
    assert not waiting.is_alive()
    assert not asked.exists()


def test_of_an_array_only_this_task_is_requeued(asked: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The id of its last task is that of the whole array."""
    _scontrol(asked)
    monkeypatch.setenv("SLURM_ARRAY_JOB_ID", "7")
    monkeypatch.setenv("SLURM_ARRAY_TASK_ID", "3")
    assert requeue_this_job(tell=TOLD.hear)
    assert asked.read_text().splitlines() == ["show job 7_3", "requeue 7_3"]


def test_F09_a_superseded_attempt_does_not_requeue_its_successor(asked: Path) -> None:  # noqa: N802
    _scontrol(asked, restarts=1)
    assert not requeue_this_job(tell=TOLD.hear)
    assert "requeue 7" not in asked.read_text()


def test_F12_the_job_is_requeued_only_once_all_its_ranks_have_saved(  # noqa: N802
    asked: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _scontrol(asked)
    monkeypatch.setattr("slurm.ranks.requeue.SECONDS_TO_SAVE", SECONDS)
    stage = StageFolder(tmp_path / "generate")
    first, second = (HeartbeatWriter(stage, worker=this_worker(rank)) for rank in (4, 5))
    first.update(state="stopped")
    second.update(state="running")
    waiting = threading.Thread(target=requeue_once_saved, args=(stage, range(4, 6)), kwargs={"tell": TOLD.hear})
    waiting.start()
    waiting.join(timeout=0.5)  # a slow machine only makes the next line easier to pass
    assert waiting.is_alive()
    assert not asked.exists()
    second.update(state="stopped")
    waiting.join(timeout=SECONDS)
    assert asked.read_text().splitlines() == ["show job 7", "requeue 7"]


def test_F19_when_another_node_is_gone_the_job_is_requeued(  # noqa: N802
    asked: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _scontrol(asked)
    monkeypatch.setattr("slurm.ranks.requeue.SECONDS_UNTIL_SLURM_ENDS_JOB", 0.1)
    assert requeue_without_peer(StopFlag(), tell=TOLD.hear)
    assert asked.read_text().splitlines() == ["show job 7", "requeue 7"]


def test_F38_a_rank_that_is_killed_on_a_running_node_ends_the_job(asked: Path) -> None:  # noqa: N802
    """Slurm then ends the others at once."""
    _scontrol(asked)
    stop = StopFlag()
    stop.ask("SIGTERM")
    assert not requeue_without_peer(stop, tell=TOLD.hear)
    assert not asked.exists()


@pytest.mark.parametrize(
    ("error", "lost"),
    [
        (RuntimeError("[gloo/transport/tcp/pair.cc:538] Connection closed by peer [127.0.0.1]:1234"), True),
        (RuntimeError("shape mismatch"), False),
    ],
)
def test_errors_of_a_lost_peer_are_recognized(error: Exception, lost: bool) -> None:
    assert peer_is_lost(error) == lost


def test_outside_of_slurm_nothing_is_asked(asked: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _scontrol(asked)
    monkeypatch.delenv("SLURM_JOB_ID")
    assert not requeue_this_job(tell=TOLD.hear)
    assert not asked.exists()
