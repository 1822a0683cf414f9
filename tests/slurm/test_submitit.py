"""The private parts of submitit that `slurm.submission.job_script` uses are still what we take them for."""

from __future__ import annotations

import inspect
from pathlib import Path

import pytest
import submitit
from submitit.core import utils

from slurm.submission.job_script import JobExecutor


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
