"""A stopped Slurm job asks for another turn, and only where that is right. The scheduler's binary is a script here."""

from __future__ import annotations

from pathlib import Path

import pytest

from slurm.requeue import MAX_REQUEUES, requeue_this_job

SCONTROL = """#!/bin/sh
echo "$@" >> {asked}
if [ "$1" = show ]; then echo "JobId=7 JobName=x"; echo "   JobState={state} Reason=None"; exit 0; fi
echo "{refusal}" >&2
exit {code}
"""


@pytest.fixture
def asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """What scontrol was asked; this process is job 7 of a cluster."""
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    monkeypatch.setenv("SLURM_JOB_ID", "7")
    monkeypatch.delenv("SLURM_RESTART_COUNT", raising=False)
    return tmp_path / "asked"


def _scontrol(asked: Path, *, state: str = "RUNNING", code: int = 0, refusal: str = "") -> None:
    script = asked.parent / "scontrol"
    script.write_text(SCONTROL.format(asked=asked, state=state, code=code, refusal=refusal))
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


def test_F20_a_refused_requeue_says_what_to_do(asked: Path, caplog: pytest.LogCaptureFixture) -> None:  # noqa: N802
    _scontrol(asked, code=1, refusal="Requested operation is presently disabled")
    assert not requeue_this_job()
    assert "presently disabled; run the same command again" in caplog.text


def test_F18_a_job_that_never_gets_far_is_not_requeued_for_ever(  # noqa: N802
    asked: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _scontrol(asked)
    monkeypatch.setenv("SLURM_RESTART_COUNT", str(MAX_REQUEUES))
    assert not requeue_this_job()
    assert not asked.exists()


def test_outside_of_slurm_nothing_is_asked(asked: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _scontrol(asked)
    monkeypatch.delenv("SLURM_JOB_ID")
    assert not requeue_this_job()
    assert not asked.exists()
