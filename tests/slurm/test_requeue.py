"""A stopped Slurm job is requeued, and only where that is right. scontrol is a script here."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from slurm.ranks.heartbeat_writer import HeartbeatWriter
from slurm.ranks.requeue import peer_is_lost, requeue_once_saved, requeue_this_job, requeue_without_peer
from slurm.ranks.stop import StopFlag
from slurm.ranks.worker import this_worker
from slurm.run_folder import StageFolder

SECONDS = 300.0  # for what another process has to do; a moment on a quiet machine

SCONTROL = """#!/bin/sh
echo "$@" >> {asked}
if [ "$1" = show ]; then
  echo "JobId=7 JobName=x"
  echo "   JobState={state} Reason=None"
  echo "   Requeue=1 Restarts={restarts} BatchFlag=1"
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


def _scontrol(asked: Path, *, state: str = "RUNNING", restarts: int = 0, code: int = 0, refusal: str = "") -> None:
    script = asked.parent / "scontrol"
    script.write_text(SCONTROL.format(asked=asked, state=state, restarts=restarts, code=code, refusal=refusal))
    script.chmod(0o755)


def test_F11_a_running_job_is_requeued_once_under_its_own_id(asked: Path) -> None:  # noqa: N802
    _scontrol(asked)
    assert requeue_this_job()
    assert asked.read_text().splitlines() == ["show job 7", "requeue 7"]


@pytest.mark.parametrize("state", ["CANCELLED", "COMPLETING", "FAILED"])
def test_a_job_that_was_canceled_stays_so(asked: Path, state: str) -> None:
    _scontrol(asked, state=state)
    assert not requeue_this_job()
    assert "requeue 7" not in asked.read_text()


def test_F20_a_refused_requeue_names_the_remedy(asked: Path, caplog: pytest.LogCaptureFixture) -> None:  # noqa: N802
    _scontrol(asked, code=1, refusal="Requested operation is presently disabled")
    assert not requeue_this_job()
    assert "presently disabled; rerun the same command" in caplog.text


def test_of_an_array_only_this_task_is_requeued(asked: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The id of its last task is that of the whole array."""
    _scontrol(asked)
    monkeypatch.setenv("SLURM_ARRAY_JOB_ID", "7")
    monkeypatch.setenv("SLURM_ARRAY_TASK_ID", "3")
    assert requeue_this_job()
    assert asked.read_text().splitlines() == ["show job 7_3", "requeue 7_3"]


def test_F09_a_superseded_attempt_does_not_requeue_its_successor(asked: Path) -> None:  # noqa: N802
    _scontrol(asked, restarts=1)
    assert not requeue_this_job()
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
    waiting = threading.Thread(target=requeue_once_saved, args=(stage, range(4, 6)))
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
    assert requeue_without_peer(StopFlag())
    assert asked.read_text().splitlines() == ["show job 7", "requeue 7"]


def test_F38_a_rank_that_is_killed_on_a_running_node_ends_the_job(asked: Path) -> None:  # noqa: N802
    """Slurm then ends the others at once."""
    _scontrol(asked)
    stop = StopFlag()
    stop.ask("SIGTERM")
    assert not requeue_without_peer(stop)
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
    assert not requeue_this_job()
    assert not asked.exists()
