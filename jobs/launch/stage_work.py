"""The unfinished stages of a launch: their jobs, their undone units, and what each waits for."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from jobs.frame.run import Run
from jobs.frame.stage import Stage
from jobs.frame.unit import PlanFile, Unit, read_plan, share, write_plan_file
from jobs.launch.living import Living
from slurm.disk import disk_errors
from slurm.errors import RunError
from slurm.files import publish
from slurm.submission.job_record import JobRecord
from slurm.submission.slurm_job import SlurmJob, jobs_again, slurm_jobs
from slurm.submission.submit import MAX_ARRAY_SIZE


@dataclass(frozen=True, kw_only=True)
class StageWork:
    """A stage to be submitted: its jobs, the undone units, and the stages it waits for."""

    stage: Stage[Unit]
    jobs: tuple[SlurmJob, ...]
    undone: tuple[int, ...]
    needs: tuple[str, ...]  # must have succeeded
    after: tuple[str, ...]  # must have ended
    record: JobRecord | None = None  # of the jobs beside which these ones work; None: the stage begins anew
    behind: tuple[str, ...] = ()  # tasks of the stage that must have ended
    canary: tuple[str, ...] = ()  # of those, the ones that must have succeeded

    @property
    def ranks(self) -> int:
        """Ranks that share the units; the canary does not count."""
        if self.record is not None:
            return self.record.ranks
        return sum(job.ranks for job in self.jobs if job.kind != "canary")


def unfinished_stages(
    run: Run, stages: Sequence[Stage[Unit]], *, largest: int = MAX_ARRAY_SIZE, living: Living | None = None
) -> Iterator[StageWork]:
    """The stages that have work left, or will have once the stages before them are done, and no job for it.

    Of a stage whose jobs are `living` only in part, the ranks without a task. Jobs that can never do their work are
    canceled, and their ranks submitted with the others.

    Raises:
        RunError: a stage needs another one that is neither finished nor submitted, or a file is missing.
    """
    living = living or Living()
    waited = {name for name in run.stages if living.alive(name) and _unfinished(run, name)}
    renewed: set[str] = set()
    for stage in stages:
        needs = stage.needs(run)
        for name in needs:
            if run.stages[name] not in stages and name not in waited:
                require_finished(run, name, needed_by=stage)
        pending = tuple(name for name in needs if name in waited)
        units = len(run.ledger.plan(stage.name).units)
        stage.files(run)  # report a missing file now, not in a job that starts tomorrow
        after = tuple(name for name in stage.after if name in waited)
        undone = tuple(range(units)) if pending or after else _undone(run, stage)
        if not pending and not undone and run.ledger.why_not_summarized(stage) is None:
            continue
        living.drop(stage.name, again=bool(renewed & {*needs, *stage.after}))
        work = StageWork(stage=stage, jobs=(), undone=undone, needs=pending, after=after)
        work = _beside(run, work, living, largest=largest) if living.alive(stage.name) else _anew(run, work, largest)
        waited.add(stage.name)
        if work.jobs:
            renewed.add(stage.name)
            yield replace(work, behind=(*work.behind, *living.leaving(stage.name)))


def _unfinished(run: Run, name: str) -> bool:
    return run.includes(name) and run.ledger.why_not_finished(run.stages[name]) is not None


def _undone(run: Run, stage: Stage[Unit]) -> tuple[int, ...]:
    return tuple(number for number, state in enumerate(run.ledger.unit_states(stage)) if state is not None)


def _anew(run: Run, work: StageWork, largest: int) -> StageWork:
    """The whole stage."""
    stage = work.stage
    jobs = slurm_jobs(
        run.cluster, stage=stage.name, distributed=stage.distributed, units=len(work.undone), largest_array=largest
    )
    return replace(work, jobs=tuple(jobs))


def _beside(run: Run, work: StageWork, living: Living, *, largest: int) -> StageWork:
    """The ranks of the stage that have units left and no task. They share the units as the living ranks do.

    Raises:
        RunError: the units are no longer those of the living jobs.
    """
    stage, record = work.stage, living.records[work.stage.name]
    alive = living.ranks(stage.name)
    if stage.distributed:
        return work
    plan, units = read_plan(run.stage_folder(stage.name)), run.ledger.plan(stage.name).units
    if plan is None or list(plan.units) != [unit.as_json() for unit in units]:
        ids = " ".join(sorted({task.job for task in living.alive(stage.name)}, key=int))
        raise RunError(f"{stage.name}: its inputs changed while its jobs are in the queue; first `scancel {ids}`")
    undone = set(work.undone)
    without = [
        rank
        for rank in range(record.ranks)
        if rank not in alive and undone & set(share(plan, units=len(units), rank=rank, ranks=record.ranks))
    ]
    each = max(job.ranks_per_task for job in record.jobs)
    jobs = jobs_again(without, alive=alive, ranks=record.ranks, ranks_per_task=each, largest_array=largest)
    parallel = run.cluster.of_array(stage.name).parallel  # Slurm limits each array by itself
    behind = tuple(living.terms(stage.name)) if parallel else ()
    return replace(work, jobs=tuple(jobs), record=record, behind=behind, canary=tuple(living.canary(stage.name)))


def require_finished(run: Run, name: str, *, needed_by: Stage[Unit]) -> None:
    """Check that the outputs of a stage are those of the current config.

    Raises:
        RunError: they are not; the message says what to run.
    """
    reason = run.ledger.why_not_finished(run.stages[name])
    if reason is not None:
        raise RunError(f"{needed_by.name}: needs the stage {name}, which is not finished ({reason}); run {name} first")


def write_plan(run: Run, stage: Stage[Unit], *, undone: Sequence[int]) -> None:
    """Write what the ranks share; remove the heartbeats and the job record of earlier launches."""
    folder = run.stage_folder(stage.name)
    for path in (*folder.heartbeats.glob("*.json"), folder.superseded_for, folder.job_record):
        with disk_errors(path, doing="removed"):
            path.unlink(missing_ok=True)
    for name, data in run.ledger.plan(stage.name).files.items():
        publish(folder.output(name), data, replace=True)
    units = [unit.as_json() for unit in run.ledger.plan(stage.name).units]
    write_plan_file(folder, PlanFile(stage=stage.name, units=units, undone=undone))


def dependency(
    run: Run, work: StageWork, number: int, *, terms: Mapping[str, Sequence[str]], ids: Sequence[str]
) -> str:
    """What the stage's job `number` waits for, in sbatch's words.

    These are the stages it needs and the canary; if the number of parallel ranks is limited, also the array before.
    `terms` are the jobs and tasks to wait for, by stage; `ids` the jobs of this stage that were submitted before.
    """
    succeeded = [*(job for name in work.needs for job in terms[name]), *work.canary]
    ended = [*(job for name in work.after for job in terms[name]), *work.behind]
    if number and work.jobs[0].kind == "canary":
        succeeded.append(ids[0])
    if number and work.jobs[number - 1].kind == "array" and run.cluster.of_array(work.stage.name).parallel:
        ended.append(ids[number - 1])  # Slurm limits each array by itself, so that arrays run one after the other
    conditions = [("afterok", succeeded), ("afterany", ended)]
    return ",".join(":".join((condition, *jobs)) for condition, jobs in conditions if jobs)
