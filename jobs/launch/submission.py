"""Submission to Slurm: the unfinished stages as jobs that wait for what they read; the same command re-arms them."""

from __future__ import annotations

import logging
import shutil
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from jobs.frame.run import Run
from jobs.frame.stage import Stage
from jobs.frame.unit import PlanFile, write_plan_file
from slurm.errors import RunError
from slurm.files import publish, publish_json, sweep
from slurm.snapshot import code_digest, snapshot
from slurm.submission import SlurmJob
from slurm.submit import (
    MAX_ARRAY_SIZE,
    Payload,
    jobs_in_queue,
    largest_array,
    payloads,
    run_comment,
    script,
    slurm_jobs,
    slurm_parameters,
    submit_slurm,
)

ENTRY = "jobs.launch.entry:main"

PROJECT = Path(__file__).parents[2]

log = logging.getLogger(__name__)


def refuse_second_submission(run: Run) -> None:
    """The jobs of an earlier launch still read the config it wrote.

    Raises:
        RunError: one of them is queued or running, or there is no Slurm here.
    """
    if run.cluster.executor == "slurm" and shutil.which("sbatch") is None:
        raise RunError("executor: got slurm, but there is no sbatch here; submit from a login node, or use local.yaml")
    submitted = [path for name in run.stages if (path := run.stage_folder(name).submission).exists()]
    if run.cluster.executor == "local" and not (submitted and shutil.which("squeue")):
        return
    try:
        ids = " ".join(jobs_in_queue(run_comment(run.folder.root)))
    except RunError as error:
        if run.cluster.executor == "slurm":
            raise
        files = " ".join(str(path) for path in submitted)
        raise RunError(f"{error}; if the cluster that this run was submitted to is gone: rm {files}") from None
    if ids:
        raise RunError(
            f"{run.folder.root}: jobs of an earlier launch are in the queue ({ids}); they resume by themselves; "
            f"to submit anew, end them first with `cemiface cancel` or `scancel {ids}`"
        )


def submit(run: Run, stages: Sequence[Stage]) -> dict[str, list[str]]:
    """Submit the unfinished stages to Slurm; returns the job ids by stage."""
    sweep(run.folder.root, everyone=True)  # nothing of this run is in the queue: whoever left something is gone
    code = snapshot(PROJECT, folder=run.folder.code)
    ids: dict[str, list[str]] = {}
    for work in chain(run, stages, largest=largest_array()):
        ids[work.stage.name] = []
        _clear(run, work)
        for part in work.jobs:
            ids[work.stage.name].append(_submit(run, work, part, ids=ids, code=code))
        log.info("%s: submitted as job %s, %d rank(s)", work.stage.name, " ".join(ids[work.stage.name]), work.ranks)
    return ids


@dataclass(frozen=True, kw_only=True)
class StageWork:
    """A stage that is to be submitted: its jobs, the undone units, and the submitted stages it waits for."""

    stage: Stage
    jobs: tuple[SlurmJob, ...]
    undone: tuple[int, ...]
    needs: tuple[str, ...]  # must have succeeded
    after: tuple[str, ...]  # must have ended

    @property
    def ranks(self) -> int:
        return sum(job.ranks for job in self.jobs if job.kind != "canary")


def chain(run: Run, stages: Sequence[Stage], *, largest: int = MAX_ARRAY_SIZE) -> Iterator[StageWork]:
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
        again = tuple(name for name in needs if name in submitted)
        units = len(run.ledger.plan(stage.name).units)
        stage.files(run)  # a file that is missing is refused now, not in a job of tomorrow
        undone = (
            range(units) if again else [n for n, state in enumerate(run.ledger.unit_states(stage)) if state is not None]
        )
        if not again and not undone and run.ledger.why_not_summarized(stage) is None:
            continue
        jobs = slurm_jobs(
            run.cluster, stage=stage.name, distributed=stage.distributed, units=len(undone), largest_array=largest
        )
        after = tuple(name for name in stage.after if name in submitted)
        submitted.add(stage.name)
        yield StageWork(stage=stage, jobs=tuple(jobs), undone=tuple(undone), needs=again, after=after)


def require_finished(run: Run, name: str, *, needed_by: Stage) -> None:
    """Refuse to work on outputs of a stage that the present config would make anew."""
    reason = run.ledger.why_not_finished(run.stages[name])
    if reason is not None:
        raise RunError(f"{needed_by.name}: needs the stage {name}, which is not finished ({reason}); run {name} first")


def write_plan(run: Run, stage: Stage, *, undone: Sequence[int]) -> None:
    """Put down what the ranks share, and forget what those of earlier launches said."""
    folder = run.stage_folder(stage.name)
    for path in (*folder.beats.glob("*.json"), folder.superseded_for, folder.submission):
        path.unlink(missing_ok=True)
    for name, data in run.ledger.plan(stage.name).files.items():
        publish(folder.output(name), data, replace=True)
    units = [unit.as_json() for unit in run.ledger.plan(stage.name).units]
    write_plan_file(folder, PlanFile(stage=stage.name, units=units, undone=undone))


def _clear(run: Run, work: StageWork) -> None:
    write_plan(run, work.stage, undone=work.undone)
    run.stage_folder(work.stage.name).logs.mkdir(parents=True, exist_ok=True)


def _submit(run: Run, work: StageWork, part: SlurmJob, *, ids: dict[str, list[str]], code: Path) -> str:
    folder = run.stage_folder(work.stage.name)
    comment = run_comment(run.folder.root, work.stage.name)
    payload = Payload(entry=ENTRY, run=str(run.folder.root), stage=work.stage.name, rank=0, ranks=work.ranks)
    earlier = ids[work.stage.name]
    job = submit_slurm(
        payloads(part, payload=payload),
        stage=folder,
        parameters=_parameters(run, work, part, dependency=dependency(run, work, len(earlier), ids=ids)),
        code=code,
        comment=comment,
    )
    record = {
        "submitted": time.time(),
        "comment": comment,
        "code": code.name,
        "ranks": payload.ranks,
        "jobs": [asdict(replace(done, job=name)) for done, name in zip(work.jobs, [*earlier, job], strict=False)],
    }
    publish_json(folder.submission, record, replace=True)
    return job


def _parameters(run: Run, work: StageWork, part: SlurmJob, *, dependency: str) -> dict[str, Any]:
    return slurm_parameters(
        part,
        stage=run.stage_folder(work.stage.name),
        cluster=run.cluster,
        comment=run_comment(run.folder.root, work.stage.name),
        dependency=dependency,
    )


def dependency(run: Run, work: StageWork, part: int, *, ids: dict[str, list[str]]) -> str:
    """What a stage's `part`-th job waits for: the stages it needs, the canary, and with a limit the array before."""
    good = [job for name in work.needs for job in ids[name]]
    ended = [job for name in work.after for job in ids[name]]
    earlier = ids[work.stage.name][:part]
    if earlier and work.jobs[0].kind == "canary":
        good.append(earlier[0])
    if part and work.jobs[part - 1].kind == "array" and run.cluster.of_array(work.stage.name).parallel:
        ended.append(earlier[-1])  # arrays do not share a limit, so they take turns
    parts = [(":".join(("afterok", *good)), good), (":".join(("afterany", *ended)), ended)]
    return ",".join(text for text, jobs in parts if jobs)


def scripts(run: Run, stages: Sequence[Stage]) -> Iterator[tuple[str, str]]:
    """Name and text of every job script, with the names of jobs where their ids will stand; needs no Slurm."""
    code = run.folder.code / code_digest(PROJECT)
    ids: dict[str, list[str]] = {}
    for work in chain(run, stages):
        names = [work.stage.name if len(work.jobs) == 1 else f"{work.stage.name}.{n}" for n in range(len(work.jobs))]
        ids[work.stage.name] = [f"<{name}>" for name in names]
        for number, (name, part) in enumerate(zip(names, work.jobs, strict=True)):
            parameters = _parameters(run, work, part, dependency=dependency(run, work, number, ids=ids))
            stage = run.stage_folder(work.stage.name)
            yield name, script(stage=stage, parameters=parameters, tasks=part.tasks, code=code)
