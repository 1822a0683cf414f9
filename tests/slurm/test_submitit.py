"""The private parts of submitit that `slurm.submission` uses are still what we take them for."""

from __future__ import annotations

import inspect
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import submitit
from submitit.core import utils

from slurm.errors import RunError
from slurm.run_folder import StageFolder
from slurm.submission.job_script import JobExecutor
from slurm.submission.local_job import LocalJob, start_local
from slurm.submission.payload import Payload

SECONDS = 300.0  # for what another process has to do; a moment on a quiet machine


@pytest.fixture
def executor(tmp_path: Path) -> JobExecutor:
    """An executor whose jobs start a python that does not exist."""
    executor = JobExecutor(folder=tmp_path / "logs", python="a-python -S")
    executor.update_parameters(job_name="demo.generate", time=5)
    return executor


def test_a_script_is_rendered_from_a_command_and_an_id() -> None:
    parameters = inspect.signature(submitit.SlurmExecutor._make_submission_file_text).parameters
    assert list(parameters) == ["self", "command", "uid"]


def test_the_command_starts_our_python_with_submitit_on_the_log_folder(executor: JobExecutor, tmp_path: Path) -> None:
    assert executor._submitit_command_str == f"a-python -S -u -m submitit.core._submit {tmp_path}/logs"


def test_a_rendered_script_is_a_shell_script_with_the_command_and_without_side_effects(
    executor: JobExecutor, tmp_path: Path
) -> None:
    text = executor._make_submission_file_text("the command", uid="")
    assert text.startswith("#!/bin/bash\n")
    assert "#SBATCH --job-name=demo.generate\n" in text
    assert text.rstrip().endswith("the command")
    assert not (tmp_path / "logs").exists()


def test_the_number_of_tasks_makes_a_script_an_array(executor: JobExecutor) -> None:
    executor.parameters["map_count"] = 3
    assert "#SBATCH --array=0-2" in executor._make_submission_file_text("the command", uid="")


def test_submitit_refuses_an_executor_without_srun_only_by_its_affinity(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert submitit.SlurmExecutor.affinity() == -1
    with pytest.raises(RuntimeError, match="srun"):
        submitit.SlurmExecutor(folder=tmp_path)
    assert JobExecutor.affinity() > 0
    JobExecutor(folder=tmp_path)


def test_the_errors_of_a_submission_are_those_that_are_caught() -> None:
    assert issubclass(utils.FailedJobError, Exception)
    assert issubclass(utils.FailedSubmissionError, Exception)


RANK = """
import os, signal, sys
from slurm.submission.payload import Payload

def entry(payload):
    from submitit import JobEnvironment
    here = JobEnvironment()
    print("rank", here.global_rank, "of", here.num_tasks, os.environ["OWN"], payload.stage, flush=True)
    if payload.stage == "dies" and here.global_rank:
        os.kill(os.getpid(), signal.SIGKILL)
    signal.pause()
"""


def _local(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stage: str) -> LocalJob:
    (tmp_path / "ranks.py").write_text(RANK)
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}:{os.environ.get('PYTHONPATH', '')}")
    start = Path(__file__).parents[2] / "jobs" / "safe_start.py"
    payload = Payload(entry="ranks:entry", run="r", stage=stage, rank=0, ranks=2)
    folder = StageFolder(tmp_path / "run" / stage)
    return start_local(payload, stage=folder, start=start, environments=[{"OWN": "first"}, {"OWN": "second"}])


def _wait_until(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + SECONDS
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_local_ranks_are_submitits_and_this_process_sees_how_each_of_them_ends(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = _local(tmp_path, monkeypatch, "dies")
    try:
        _wait_until(lambda: "rank 0" in job.output(0).read_text() and job.codes())
        assert (job.codes(), job.lost(), job.ended()) == ({1: -9}, {1: signal.SIGKILL}, False)
    finally:
        job.kill()
    _wait_until(job.ended)
    assert (job.codes(), job.lost()) == ({0: -9, 1: -9}, {1: signal.SIGKILL})  # the other one we ended
    assert "rank 0 of 2 first dies\n" in job.output(0).read_text()
    assert "rank 1 of 2 second dies\n" in job.output(1).read_text()


def test_attempts_of_the_same_process_have_names_of_their_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    jobs = [_local(tmp_path, monkeypatch, "waits") for _ in range(2)]
    for job in jobs:
        job.kill()
        _wait_until(job.ended)
    assert jobs[0].output(0) != jobs[1].output(0)


def test_ranks_that_cannot_be_started_leave_none_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.executable", "/nowhere/python")
    with pytest.raises(RunError, match="waits: a rank cannot be started: No such file or directory"):
        _local(tmp_path, monkeypatch, "waits")
