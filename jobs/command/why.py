"""`cemiface why`: the first cause of a failure, where it happened, the end of the log, and the command to run."""

from __future__ import annotations

from collections.abc import Iterator

from rich.console import Console

from jobs.command.invocation import Invocation
from jobs.command.logs import scheduler_logs, tail
from jobs.command.run_rank import can_rerun
from jobs.command.status_text import describe
from jobs.frame.errors import USER_ERRORS
from jobs.frame.run import Run
from jobs.watch.observer import Observer
from jobs.watch.rank_states import RankState
from jobs.watch.status import RunStatus, StageStatus
from jobs.watch.task_reasons import duration
from slurm.errors import RunError

LINES = 15  # shown of each log


def show_why(run: Run, *, stage: str | None, rank: int | None, invocation: Invocation, console: Console) -> None:
    """Explain one rank; without a rank, the first cause in the stage; without a stage, the first cause in the run.

    Raises:
        RunError: there is no such rank, or nothing to explain.
    """
    if not run.chain:
        raise RunError(f"{invocation.config}: has no stage; add a section, e.g. `shard:`")
    status = Observer(run).poll()
    stages = {found.name: found for found in status.stages}
    problems = [("Slurm", status.no_answer), ("Slurm's accounting", status.no_accounts)]
    for source, problem in problems:
        if problem:
            console.print(f"{source} gave no answer ({problem})", markup=False, highlight=False, soft_wrap=True)
    chosen = stages[stage] if stage else _first_cause(status)
    for line in _explain(run, chosen, stages, rank=rank, invocation=invocation):
        console.print(line, markup=False, highlight=False, soft_wrap=True)


def _first_cause(status: RunStatus) -> StageStatus:
    """The first stage with a failed or lost rank, else with a held one, else the first not done, else the last one."""
    troubled = (stage for stage in status.stages if stage.troubled)
    held = (stage for stage in status.stages if stage.in_state("held"))
    unfinished = (stage for stage in status.stages if stage.state != "done")
    return next(troubled, next(held, next(unfinished, status.stages[-1])))


def _explain(
    run: Run, stage: StageStatus, stages: dict[str, StageStatus], *, rank: int | None, invocation: Invocation
) -> Iterator[str]:
    if rank is not None:
        found = next((known for known in stage.ranks if known.rank == rank), None)
        if found is None:
            allowed = f"0 to {stage.ranks[-1].rank}" if stage.ranks else "none, as it was not started"
            raise RunError(f"rank: got {rank}, allowed for {stage.name}: {allowed}")
        yield from _explain_rank(run, stage, found, invocation=invocation)
    elif stage.troubled:
        yield f"{stage.name}: {len(stage.troubled)} of {len(stage.ranks)} ranks failed or are lost; the first cause:"
        yield from _explain_rank(run, stage, stage.troubled[0], invocation=invocation)
    else:
        yield f"{stage.name}: {stage.state}" + (f", {stage.reason}" if stage.reason else "")
        yield from _explain_stage(run, stage, stages, invocation=invocation)


def _explain_stage(
    run: Run, stage: StageStatus, stages: dict[str, StageStatus], *, invocation: Invocation
) -> Iterator[str]:
    """A stage without failed ranks: the stage it waits for, or the error that a launch would report."""
    needed = run.stages[stage.name].needs(run)
    earlier = next((stages[name] for name in needed if name in stages and stages[name].state != "done"), None)
    if stage.state in {"done", "running", "queued", "held"}:
        return
    if earlier is not None:
        yield f"it needs {earlier.name}:"
        yield from _explain(run, earlier, stages, rank=None, invocation=invocation)
        return
    if stage.units is None:
        try:
            run.stages[stage.name].plan(run)
        except USER_ERRORS as error:
            yield f"it cannot be planned: {error}"
    yield f"to run it: {invocation.command('all', cluster=True)}"


def _explain_rank(run: Run, stage: StageStatus, rank: RankState, *, invocation: Invocation) -> Iterator[str]:
    folder = run.stage_folder(stage.name)
    yield f"rank {rank.rank} of {stage.name} {describe(rank)}"
    yield from _sources(rank)
    own = tail(folder.log(rank.rank), lines=LINES)
    if own:
        yield f"log: {folder.log(rank.rank)}"
        yield from (f"  | {line}" for line in own)
    for path in scheduler_logs(folder, rank.rank) if rank.state in {"failed", "lost"} else ():
        output = [line for line in tail(path, lines=LINES) if line.strip() and not line.startswith("submitit ")]
        new = [line for line in output if line not in own]
        if new:
            yield f"output of its process: {path}"
            yield from (f"  | {line}" for line in new)
    if rank.state in {"failed", "lost", "stopped", "unknown"}:
        yield from _commands(run, stage, rank, invocation=invocation)


def _sources(rank: RankState) -> Iterator[str]:
    """Its heartbeat, and its task in Slurm."""
    heartbeat, task = rank.facts.heartbeat, rank.facts.task
    if heartbeat is not None:
        worker = heartbeat.worker
        job = f", job {worker.job}" if worker.job else ""
        progress = [f"{heartbeat.images} images" if heartbeat.images else "", heartbeat.note or ""]
        progress += [f"in unit {heartbeat.unit}" if heartbeat.unit is not None else ""]
        yield f"  where: node {worker.host}, process {worker.pid}{job}"
        yield f"  last heartbeat: {', '.join([f'{duration(rank.facts.silent)} ago', *filter(None, progress)])}"
    if task is not None:
        reason = f" ({task.reason})" if task.reason else ""
        ended = "" if task.pending or task.running else f", exit {task.exit}, signal {task.signal}"
        yield f"  Slurm: job {task.name} is {task.state}{reason}{ended}, node {task.node or 'none yet'}"
    elif rank.facts.submitted:
        yield f"  Slurm: {rank.facts.no_answer or 'its job is no longer known'}"


def _commands(run: Run, stage: StageStatus, rank: RankState, *, invocation: Invocation) -> Iterator[str]:
    if rank.state == "lost":
        memory = "; if it is lost again, give it more memory" if "memory" in rank.reason else ""
        yield f"only its unsaved work is lost{memory}"
    if str(run.folder.root) in rank.reason:
        yield "if a file of the run is damaged, this command lists all damaged files:"
        yield f"    {invocation.command('verify')}"
    if rank.state in {"failed", "lost"} and can_rerun(run, run.stages[stage.name]):
        yield "to run only this rank, on this machine in the foreground:"
        yield f"    {invocation.command('run-rank', stage.name, rank.rank)}"
    yield "to resume the run once the cause is fixed:"
    yield f"    {invocation.command('all', cluster=True)}"
