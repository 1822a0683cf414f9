"""Answers of squeue, sacct and scancel, which are scripts here: good ones, unreadable ones, late ones and none."""
# ruff: noqa: N802

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import pytest

from slurm.submission import queue
from slurm.submission.queue import ask_accounting, ask_queue, scancel

Fake = Callable[..., Path]


@pytest.fixture
def fake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Fake:
    """Put a Slurm tool, alone, on PATH: its output, its error output and its exit code."""
    monkeypatch.setenv("PATH", str(tmp_path))

    def put(tool: str, *, answer: str = "", complaint: str = "", code: int = 0, first: str = "") -> Path:
        (tmp_path / "answer").write_text(answer)
        script = tmp_path / tool
        script.write_text(
            f'#!/bin/sh\nprintf "%s\\n" "$@" > {tmp_path}/asked\n{first}\n/bin/cat {tmp_path}/answer\n'
            f'echo "{complaint}" >&2\nexit {code}\n'
        )
        script.chmod(0o755)
        return tmp_path / "asked"

    return put


def test_the_queue_lists_waiting_running_and_ended_tasks(fake: Fake) -> None:
    asked = fake(
        "squeue",
        answer="13|0|RUNNING|2|0|c1|None|(null)|here|x|/dev/null|cemiface:0123456789ab:generate|\n"
        "13|1|PENDING|0|0||JobArrayTaskLimit|(null)|here|x|/dev/null|cemiface:0123456789ab:generate|\n"
        "14|N/A|PENDING|1|0||ReqNodeNotAvail, UnavailableNodes:c[1-2]|(null)|here|x|/dev/null|(null)|\n"
        "15|N/A|FAILED|0|768|c[2-3]|NonZeroExitCode|(null)|here|x|/dev/null|(null)|\n"
        "16|N/A|OUT_OF_MEMORY|0|9|c4|OutOfMemory|(null)|here|x|/dev/null|(null)|\n",
    )
    tasks = ask_queue().tasks
    assert "--me" in asked.read_text().split()
    running, waiting, single = tasks["13", 0], tasks["13", 1], tasks["14", None]
    assert (running.name, running.running, running.restarts, running.node, running.reason) == (
        "13_0",
        True,
        2,
        "c1",
        "",
    )
    assert running.comment == "cemiface:0123456789ab:generate"
    assert (waiting.pending, waiting.reason) == (True, "JobArrayTaskLimit")
    assert (single.name, single.reason) == ("14", "ReqNodeNotAvail, UnavailableNodes:c[1-2]")
    assert (tasks["15", None].exit, tasks["15", None].signal) == (3, 0)
    assert (tasks["16", None].exit, tasks["16", None].signal) == (0, 9)


def test_an_empty_queue_is_an_answer(fake: Fake) -> None:
    fake("squeue")
    assert ask_queue().no_answer is None
    assert ask_queue().tasks == {}


def test_lines_in_the_comments_of_other_jobs_are_skipped(fake: Fake) -> None:
    fake("squeue", answer="13|0|RUNNING|0|0|c1|None|(null)|here|x|/dev/null|first line\nand | a | second|\n14|x\n\n")
    assert list(ask_queue().tasks) == [("13", 0)]


@pytest.mark.parametrize(
    ("answer", "complaint", "code", "reason"),
    [
        (
            "welcome to the login node\n",
            "",
            0,
            "squeue gave an answer that cannot be read: 'welcome to the login node'",
        ),
        ("", "slurm_load_jobs error: Unable to contact slurm controller", 1, "squeue refused: slurm_load_jobs error"),
        ("", "", 1, "squeue refused"),
        ("13|0|RUNNING|0|0|c1|None|x|", "half way", 1, "squeue refused: half way"),
    ],
)
def test_F25_a_queue_that_cannot_be_read_is_no_empty_queue(
    fake: Fake, answer: str, complaint: str, code: int, reason: str
) -> None:
    fake("squeue", answer=answer, complaint=complaint, code=code)
    no_answer = ask_queue().no_answer
    assert no_answer is not None
    assert reason in no_answer
    assert "\n" not in no_answer


def test_F26_missing_tools_are_named(fake: Fake) -> None:
    assert ask_queue().no_answer == "there is no squeue on this machine"
    assert ask_accounting(["7"], since=time.time()).no_answer == "there is no sacct on this machine"
    assert scancel(["7"]) == "there is no scancel on this machine"


def test_a_controller_that_does_not_answer_is_not_waited_for(fake: Fake, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(queue, "SECONDS_TO_ANSWER", 0.2)
    fake("squeue", first="exec /bin/sleep 60")
    assert "did not answer within" in str(ask_queue().no_answer)


def test_what_a_user_set_for_squeue_does_not_change_the_answer(fake: Fake, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SQUEUE_FORMAT", "%i")
    monkeypatch.setenv("SQUEUE_STATES", "RUNNING")
    fake("squeue", first='[ -z "$SQUEUE_FORMAT$SQUEUE_STATES" ] || exit 1')
    assert ask_queue().no_answer is None


def test_the_accounting_lists_how_earlier_attempts_ended(fake: Fake) -> None:
    asked = fake(
        "sacct",
        answer="13_0|PREEMPTED|0:15|c1\n13_0|NODE_FAIL|1:0|c2\n13_0|CANCELLED by 1000|0:9|c3\n"
        "13_1|OUT_OF_MEMORY|0:125|c1\n13_[2-4]|PENDING|0:0|None assigned\n14|COMPLETED|0:0|c4\n",
    )
    tasks = ask_accounting(["13", "14"], since=time.time()).tasks
    assert "--jobs=13,14" in asked.read_text().split()
    assert (tasks["13", 0].state, tasks["13", 0].earlier) == ("CANCELLED", ("PREEMPTED", "NODE_FAIL"))
    assert (tasks["13", 1].state, tasks["13", 1].signal) == ("OUT_OF_MEMORY", 125)
    assert (tasks["14", None].state, tasks["14", None].node) == ("COMPLETED", "c4")
    assert len(tasks) == 3


def test_F26_accounting_that_is_disabled_is_a_reason(fake: Fake) -> None:
    fake("sacct", complaint="Slurm accounting storage is disabled", code=1)
    answer = ask_accounting(["7"], since=time.time())
    assert answer.no_answer == "sacct refused: Slurm accounting storage is disabled"


def test_jobs_are_canceled_by_id(fake: Fake) -> None:
    asked = fake("scancel")
    assert scancel(["7", "9"]) is None
    assert asked.read_text().split() == ["7", "9"]
