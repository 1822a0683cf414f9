"""The unfinished stages of a launch: their jobs, their undone units, and what each waits for."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from jobs.frame.run import Run
from jobs.frame.stage import Stage
from jobs.frame.unit import PlanFile, Unit, write_plan_file
from slurm.disk import disk_errors
from slurm.errors import RunError
from slurm.files import publish
from slurm.submission.slurm_job import SlurmJob, slurm_jobs
from slurm.submission.submit import MAX_ARRAY_SIZE


@dataclass(frozen=True, kw_only=True)
class StageWork:
    """A stage to be submitted: its jobs, the undone units, and the submitted stages it waits for."""

    stage: Stage[Unit]
    jobs: tuple[SlurmJob, ...]
    undone: tuple[int, ...]
    needs: tuple[str, ...]  # must have succeeded
    after: tuple[str, ...]  # must have ended

    @property
    def ranks(self) -> int:
        """Ranks that share the units; the canary does not count."""
        return sum(job.ranks for job in self.jobs if job.kind != "canary")


def unfinished_stages(run: Run, stages: Sequence[Stage[Unit]], *, largest: int = MAX_ARRAY_SIZE) -> Iterator[StageWork]:
    """The stages that have work left, or will have once the stages before them are done.

    Raises:
        RunError: a stage needs another one that is neither finished nor submitted with it, or a file is missing.
    """
    submitted: set[str] = set()
    for stage in stages:
        needs = stage.needs(run)
        for name in needs:
            if run.stages[name] not in stages:
                require_finished(run, name, needed_by=stage)
        pending = tuple(name for name in needs if name in submitted)
        units = len(run.ledger.plan(stage.name).units)
        stage.files(run)  # report a missing file now, not in a job that starts tomorrow
        after = tuple(name for name in stage.after if name in submitted)
        undone = tuple(range(units)) if pending or after else _undone(run, stage)
        if not pending and not undone and run.ledger.why_not_summarized(stage) is None:
            continue
        jobs = slurm_jobs(
            run.cluster, stage=stage.name, distributed=stage.distributed, units=len(undone), largest_array=largest
        )
        submitted.add(stage.name)
        yield StageWork(stage=stage, jobs=tuple(jobs), undone=undone, needs=pending, after=after)


def _undone(run: Run, stage: Stage[Unit]) -> tuple[int, ...]:
    return tuple(number for number, state in enumerate(run.ledger.unit_states(stage)) if state is not None)


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


def dependency(run: Run, work: StageWork, number: int, *, ids: dict[str, list[str]]) -> str:
    """What the stage's job `number` waits for, in sbatch's words; `ids` are job ids by stage.

    These are the stages it needs and the canary; if the number of parallel ranks is limited, also the array before.
    """
    succeeded = [job for name in work.needs for job in ids[name]]
    ended = [job for name in work.after for job in ids[name]]
    earlier = ids[work.stage.name][:number]
    if earlier and work.jobs[0].kind == "canary":
        succeeded.append(earlier[0])
    if number and work.jobs[number - 1].kind == "array" and run.cluster.of_array(work.stage.name).parallel:
        ended.append(earlier[-1])  # Slurm limits each array by itself, so that arrays run one after the other
    conditions = [("afterok", succeeded), ("afterany", ended)]
    return ",".join(":".join((condition, *jobs)) for condition, jobs in conditions if jobs)
