"""What a launch submits beside jobs that are in the queue. The answers of squeue and scancel are given here."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from jobs.frame.experiment import fields_that_differ
from jobs.frame.run import Run
from jobs.launch.living import Living, ask_living
from jobs.launch.stage_work import dependency, unfinished_stages
from jobs.launch.submit import refuse_other_cluster
from slurm.errors import RunError
from slurm.submission.job_record import JobRecord
from slurm.submission.queue import Task
from slurm.submission.slurm_job import SlurmJob
from slurm.submission.submit import Site

from ..many_ranks import ManyRanks, fake_tool, queued

STAGE = "generate"


@pytest.fixture
def run(copied: Run) -> Run:
    """The tiny run, whose two units of `generate` are not done."""
    folder = copied.stage_folder(STAGE)
    folder.summary.unlink()
    for unit in range(2):
        folder.marker(unit).unlink()
    plan = json.loads(folder.plan.read_text())
    folder.plan.write_text(json.dumps({**plan, "undone": [0, 1]}))
    return copied


@pytest.fixture
def canceled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The jobs that scancel got."""
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    return fake_tool(tmp_path / "bin", "scancel")


def _task(job: str, index: int | None, state: str = "PENDING", **more: str) -> Task:
    return Task(job=job, index=index, state=state, **more)


def _array(job: str, *, first: int = 0, ranks: int = 2, each: int = 1) -> SlurmJob:
    return SlurmJob(kind="array", first_rank=first, ranks=ranks, ranks_per_task=each, job=job)


def _living(tasks: dict[str, list[Task]], **records: list[SlurmJob]) -> Living:
    named = {name.replace("_", "-"): jobs for name, jobs in records.items()}
    return Living(
        tasks=tasks,
        records={
            name: JobRecord(ranks=max(job.first_rank + job.ranks for job in jobs), submitted=1.0, jobs=tuple(jobs))
            for name, jobs in named.items()
        },
    )


def _submitted(run: Run, living: Living) -> dict[str, list[tuple[int, int]]]:
    """First rank and number of ranks of each job that a launch submits, by stage."""
    return {
        work.stage.name: [(job.first_rank, job.ranks) for job in work.jobs]
        for work in unfinished_stages(run, run.chain, living=living)
    }


def test_beside_nothing_every_unfinished_stage_is_submitted(run: Run) -> None:
    names = [stage.name for stage in run.chain]
    assert next(iter(_submitted(run, Living()))) == STAGE
    assert set(_submitted(run, Living())) <= set(names[names.index(STAGE) :])


def test_a_stage_whose_ranks_all_wait_or_run_is_left_alone(run: Run) -> None:
    living = _living({STAGE: [_task("7", 0, "RUNNING"), _task("7", 1)]}, generate=[_array("7")])
    assert STAGE not in _submitted(run, living)


@pytest.mark.parametrize("gone", [0, 1])
@pytest.mark.parametrize("trace", [True, False])
def test_a_rank_whose_task_is_gone_is_submitted_again_and_the_living_are_named_one_by_one(
    run: Run, gone: int, trace: bool
) -> None:
    """A task that was canceled before it started leaves no trace."""
    tasks = [_task("7", 1 - gone, "RUNNING"), *([_task("7", gone, "CANCELLED")] if trace else [])]
    living = _living({STAGE: tasks}, generate=[_array("7")])
    assert living.terms(STAGE) == [f"7_{1 - gone}"]
    (work,) = [work for work in unfinished_stages(run, run.chain, living=living) if work.stage.name == STAGE]
    assert [(job.first_rank, job.ranks) for job in work.jobs] == [(gone, 1)]
    assert work.ranks == 2


def test_an_array_is_whole_although_squeue_forgot_the_tasks_that_succeeded() -> None:
    living = _living({STAGE: [_task("7", 1, "RUNNING")]}, generate=[_array("7")])
    assert living.terms(STAGE) == ["7_1"]
    living.succeeded = {"7_0"}
    assert living.terms(STAGE) == ["7"]


def test_a_rank_that_is_done_is_not_submitted_again(run: Run, copied: Run) -> None:
    folder = run.stage_folder(STAGE)
    plan = json.loads(folder.plan.read_text())
    folder.plan.write_text(json.dumps({**plan, "undone": [1]}))  # then rank 0 owns unit 1, and rank 1 unit 0
    living = _living({STAGE: [_task("7", 0, "RUNNING"), _task("7", 1, "FAILED")]}, generate=[_array("7")])
    assert _submitted(run, living)[STAGE] == [(1, 1)]


def test_a_job_that_is_on_no_record_is_canceled_and_the_stage_submitted_anew(run: Run, canceled: Path) -> None:
    living = _living({STAGE: [_task("9", 0, "RUNNING"), _task("9", 1)]})
    (work,) = [work for work in unfinished_stages(run, run.chain, living=living) if work.stage.name == STAGE]
    assert canceled.read_text().split() == ["9"]
    assert (work.record, work.behind) == (None, ("9",))
    assert dependency(run, work, 0, terms={}, ids=[]) == "afterany:9"


def test_ranks_that_are_ending_are_submitted_again_behind_them(run: Run) -> None:
    living = _living({STAGE: [_task("7", 0, "COMPLETING"), _task("7", 1, "RUNNING")]}, generate=[_array("7")])
    (work,) = [work for work in unfinished_stages(run, run.chain, living=living) if work.stage.name == STAGE]
    assert [(job.first_rank, job.ranks) for job in work.jobs] == [(0, 1)]
    assert dependency(run, work, 0, terms={}, ids=[]) == "afterany:7_0"


def test_what_waits_for_a_stage_that_is_submitted_again_is_submitted_again_too(run: Run, canceled: Path) -> None:
    after = next(stage for stage in run.chain if STAGE in stage.needs(run))
    record = [_array("8", ranks=1)]
    waits = _task("8", None, dependency="afterok:7_*(unfulfilled)")
    alive = _living({after.name: [waits]}, **{after.name: record})
    assert list(_submitted(run, alive))[:2] == [STAGE, after.name]
    assert canceled.read_text().split() == ["8"]


@pytest.mark.parametrize(
    ("dependency", "vain"),
    [
        ("afterok:7_*(unfulfilled)", True),
        ("afterok:6(unfulfilled),afterok:7_*(unfulfilled)", True),
        ("afterok:7_1(unfulfilled)", True),
        ("afterok:7(unfulfilled)", True),
        ("afterok:7_0(unfulfilled)", False),
        ("afterany:7_*(unfulfilled)", False),
        ("afterok:70_*(unfulfilled)", False),
        ("", False),
    ],
)
def test_a_job_that_waits_for_one_that_failed_is_not_left_to_wait(
    run: Run, canceled: Path, dependency: str, vain: bool
) -> None:
    tasks = {
        "embed": [_task("7", 0, "RUNNING"), _task("7", 1, "FAILED")],
        STAGE: [_task("8", 0, dependency=dependency)],
    }
    living = _living(tasks, embed=[_array("7")], generate=[_array("8", ranks=1)])
    living.drop(STAGE, again=False)
    assert canceled.exists() == vain
    assert living.alive(STAGE) == ([] if vain else tasks[STAGE])


def test_jobs_that_never_start_are_not_left_to_wait(run: Run, canceled: Path) -> None:
    never = _task("8", 0, reason="DependencyNeverSatisfied")
    living = _living({STAGE: [never]}, generate=[_array("8", ranks=1)])
    living.drop(STAGE, again=False)
    assert canceled.read_text().split() == ["8"]


def test_if_jobs_cannot_be_canceled_nothing_is_submitted_in_their_place(
    tmp_path: Path, run: Run, canceled: Path
) -> None:
    fake_tool(tmp_path / "bin", "scancel", complaint="no permission", code=1)
    living = _living({STAGE: [_task("9", 0)]})
    with pytest.raises(RunError, match=r"generate: jobs 9 have to be submitted again, but scancel refused"):
        living.drop(STAGE, again=False)


def test_ranks_of_one_task_are_submitted_again_together(run: Run) -> None:
    living = _living({STAGE: [_task("7", 0, "RUNNING")]}, generate=[replace(_array("7", ranks=4, each=2), ranks=4)])
    folder = run.stage_folder(STAGE)
    plan = json.loads(folder.plan.read_text())
    folder.plan.write_text(json.dumps({**plan, "undone": [1, 0]}))
    assert STAGE not in _submitted(run, living)  # ranks 2 and 3 own nothing


def test_inputs_that_changed_beside_living_ranks_are_refused(run: Run) -> None:
    folder = run.stage_folder(STAGE)
    plan = json.loads(folder.plan.read_text())
    folder.plan.write_text(json.dumps({**plan, "units": plan["units"][:1]}))
    living = _living({STAGE: [_task("7", 0, "RUNNING")]}, generate=[_array("7")])
    with pytest.raises(
        RunError, match=r"generate: its inputs changed while its jobs are in the queue; first `scancel 7`"
    ):
        _submitted(run, living)


def test_a_stage_that_was_submitted_to_another_cluster_is_not_submitted_to_this_one(run: Run) -> None:
    record = JobRecord(ranks=1, submitted=1.0, jobs=(_array("7"),), cluster="alps")
    finished = Living(records={"embed": record})
    refuse_other_cluster(run, finished, site=Site(cluster="jura"))
    refuse_other_cluster(run, Living(records={STAGE: record}), site=Site(cluster="alps"))
    refuse_other_cluster(run, Living(records={STAGE: record}), site=Site(cluster=""))
    with pytest.raises(RunError, match=r"submitted to the cluster alps, .*; this is jura; .* rm \S+submission.json"):
        refuse_other_cluster(run, Living(records={STAGE: record}), site=Site(cluster="jura"))


def test_the_fields_that_differ_from_those_of_the_living_jobs_are_named(copied: Run) -> None:
    assert fields_that_differ(copied) == []
    text = copied.folder.config.read_text()
    copied.folder.config.write_text(
        text.replace("seed: 3", "seed: 4").replace("images_per_identity: 4", "images_per_identity: 9")
    )
    assert fields_that_differ(copied) == ["generate.images_per_identity", "seed"]


def test_jobs_of_others_are_not_among_the_living(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    many = ManyRanks.make(tmp_path / "project", units=4)
    many.submitted(ranks=2)
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    ours = queued("8|0|PENDING|0|0||Priority")
    fake_tool(
        tmp_path / "bin",
        "squeue",
        answer=ours + queued("7|0|RUNNING|0|0|c1|None", comment="cemiface:ffffffffffff:generate"),
    )
    assert ask_living(many.run).ids == ["8"]


def test_a_moved_run_with_jobs_is_refused_and_a_copy_has_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    many = ManyRanks.make(tmp_path / "project", units=4)
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    fake_tool(tmp_path / "bin", "squeue", answer=queued("8|0|PENDING|0|0||Priority"))
    (tmp_path / "project").rename(tmp_path / "moved")
    moved = ManyRanks(root=tmp_path / "moved", units=4)
    with pytest.raises(RunError, match=r"was moved from \S+project/runs/many, where its jobs in the queue \(8\) work"):
        ask_living(moved.run)
    many = ManyRanks.make(tmp_path / "project", units=4)  # now the first one is a copy of this
    assert ask_living(moved.run).ids == []
    assert ask_living(many.run).ids == ["8"]
