"""Which Slurm task runs which rank, by the record of the submitted jobs."""
# ruff: noqa: N802

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from slurm.run_folder import StageFolder
from slurm.submission.job_record import JobRecord, read_job_record, write_job_record
from slurm.submission.queue import Task
from slurm.submission.slurm_job import SlurmJob


def _job(job: str, kind: str, *, first: int = 0, ranks: int = 1, each: int = 1) -> dict[str, Any]:
    return {"job": job, "kind": kind, "first_rank": first, "ranks": ranks, "ranks_per_task": each}


def _record(folder: Path, *jobs: dict[str, Any], ranks: int) -> JobRecord:
    stage = StageFolder(folder)
    record = {"submitted": 1.0, "comment": "cemiface:0123456789ab:generate", "code": "0" * 12, "ranks": ranks}
    stage.job_record.write_text(json.dumps({**record, "jobs": list(jobs)}))
    found = read_job_record(stage)
    assert found is not None
    return found


def _known(*tasks: Task) -> dict[tuple[str, int | None], Task]:
    return {(task.job, task.index): task for task in tasks}


def test_F23_each_rank_of_several_packed_arrays_has_its_task(tmp_path: Path) -> None:
    record = _record(
        tmp_path, _job("7", "array", ranks=6, each=2), _job("8", "array", first=6, ranks=3, each=2), ranks=9
    )
    tasks = [Task(job="7", index=n, state="RUNNING") for n in range(3)]
    tasks += [Task(job="8", index=n, state="PENDING") for n in range(2)]
    found = record.tasks_by_rank(_known(*tasks))
    assert [found[rank].name for rank in range(9)] == ["7_0", "7_0", "7_1", "7_1", "7_2", "7_2", "8_0", "8_0", "8_1"]


def test_F24_an_array_of_one_element_and_a_distributed_job_have_no_index(tmp_path: Path) -> None:
    one = _record(tmp_path, _job("7", "array"), ranks=1)
    assert one.tasks_by_rank(_known(Task(job="7", index=None, state="RUNNING")))[0].name == "7"
    together = _record(tmp_path, _job("9", "distributed", ranks=4, each=4), ranks=4)
    found = together.tasks_by_rank(_known(Task(job="9", index=None, state="RUNNING")))
    assert [found[rank].name for rank in range(4)] == ["9"] * 4


@pytest.mark.parametrize(
    ("canary", "array", "expected"),
    [
        ("RUNNING", "PENDING", "RUNNING"),
        ("FAILED", "CANCELLED", "FAILED"),
        ("COMPLETED", "PENDING", "PENDING"),
        ("COMPLETED", "FAILED", "FAILED"),
    ],
)
def test_rank_0_is_the_canary_until_that_is_completed(tmp_path: Path, canary: str, array: str, expected: str) -> None:
    record = _record(tmp_path, _job("6", "canary"), _job("7", "array", ranks=2), ranks=2)
    tasks = [Task(job="7", index=n, state=array) for n in range(2)]
    found = record.tasks_by_rank(_known(Task(job="6", index=None, state=canary), *tasks))
    assert (found[0].state, found[1].state) == (expected, array)


def test_ranks_that_slurm_has_forgotten_have_no_task(tmp_path: Path) -> None:
    record = _record(tmp_path, _job("7", "array", ranks=2), ranks=2)
    assert record.tasks_by_rank(_known(Task(job="7", index=1, state="PENDING"))).keys() == {1}


@pytest.mark.parametrize(
    "text", ["", "[]", '{"job": "7", "ranks": 3}', '{"jobs": [{"job": 7}], "ranks": 1, "submitted": 1}']
)
def test_a_record_that_cannot_be_read_is_none(tmp_path: Path, text: str) -> None:
    stage = StageFolder(tmp_path)
    stage.job_record.write_text(text)
    assert read_job_record(stage) is None


def test_a_record_reads_back_as_it_was_written_under_the_keys_of_older_runs(tmp_path: Path) -> None:
    stage = StageFolder(tmp_path)
    job = SlurmJob(kind="array", first_rank=4, ranks=6, ranks_per_task=2, job="7")
    of_run = {"run": "0123456789ab", "path": "/runs/demo", "cluster": "alps"}
    record = JobRecord(ranks=10, submitted=1.5, jobs=(job,), comment="cemiface:0:generate", code="0" * 12, **of_run)
    write_job_record(stage, record)
    assert read_job_record(stage) == record
    assert json.loads((tmp_path / "submission.json").read_text()) == {
        "submitted": 1.5,
        "comment": "cemiface:0:generate",
        "code": "0" * 12,
        "ranks": 10,
        **of_run,
        "jobs": [_job("7", "array", first=4, ranks=6, each=2)],
    }
