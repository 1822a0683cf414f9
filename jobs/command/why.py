"""Why a stage or a rank stands as it does: the first cause, where and how often, its last words, what to type."""

from __future__ import annotations

from collections.abc import Iterator

from rich.console import Console

from jobs.command.invocation import Invocation
from jobs.command.logs import scheduler_logs, tail
from jobs.command.run_rank import can_rerun
from jobs.command.status import describe
from jobs.frame.errors import USER_ERRORS
from jobs.frame.run import Run
from jobs.watch.observer import Observer
from jobs.watch.rank_states import RankState, minutes
from jobs.watch.status import RunStatus, StageStatus
from slurm.errors import RunError

LINES = 15  # of each log


def show_why(run: Run, *, stage: str | None, rank: int | None, invocation: Invocation, console: Console) -> None:
    """Explain one rank; without one, the stage's first cause; without a stage, the run's.

    Raises:
        RunError: there is no such rank, or nothing to explain.
    """
    if not run.chain:
        raise RunError(f"{invocation.config}: asks for no stage; add a section, e.g. `shard:`")
    status = Observer(run).look()
    stages = {each.name: each for each in status.stages}
    chosen = stages[stage] if stage else _first_cause(status)
    for line in _explain(run, chosen, stages, rank=rank, invocation=invocation):
        console.print(line, markup=False, highlight=False, soft_wrap=True)


def _first_cause(status: RunStatus) -> StageStatus:
    """The first stage in trouble, else the first that is not done, else the last one."""
    troubled = (stage for stage in status.stages if stage.troubled)
    return next(troubled, next((stage for stage in status.stages if stage.state != "done"), status.stages[-1]))


def _explain(
    run: Run, stage: StageStatus, stages: dict[str, StageStatus], *, rank: int | None, invocation: Invocation
) -> Iterator[str]:
    if rank is not None:
        found = next((each for each in stage.ranks if each.rank == rank), None)
        if found is None:
            known = f"0 to {stage.ranks[-1].rank}" if stage.ranks else "none, it was not started"
            raise RunError(f"rank: got {rank}, {stage.name} has: {known}")
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
    """Of a stage without trouble of its own: what before it is in the way, or what a launch would say."""
    needed = run.stages[stage.name].needs(run)
    earlier = next((stages[name] for name in needed if name in stages and stages[name].state != "done"), None)
    if stage.state in {"done", "running", "queued"}:
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
    yield f"to go on, type: {invocation.command('all', cluster=True)}"


def _explain_rank(run: Run, stage: StageStatus, rank: RankState, *, invocation: Invocation) -> Iterator[str]:
    folder = run.stage_folder(stage.name)
    yield f"rank {rank.rank} of {stage.name} {describe(rank)}"
    yield from _whereabouts(rank)
    own = tail(folder.log(rank.rank), lines=LINES)
    if own:
        yield f"log: {folder.log(rank.rank)}"
        yield from (f"  | {line}" for line in own)
    for path in scheduler_logs(folder, rank.rank) if rank.state in {"failed", "lost"} else ():
        caught = [line for line in tail(path, lines=LINES) if line.strip() and not line.startswith("submitit ")]
        news = [line for line in caught if line not in own]
        if news:
            yield f"what the scheduler caught: {path}"
            yield from (f"  | {line}" for line in news)
    if rank.state in {"failed", "lost", "stopped", "unknown"}:
        yield from _what_to_type(run, stage, rank, invocation=invocation)


def _whereabouts(rank: RankState) -> Iterator[str]:
    beat, task = rank.evidence.beat, rank.evidence.task
    if beat is not None:
        job = f", job {beat['job']}" if beat.get("job") else ""
        doing = [f"{beat['images']} images" if beat.get("images") else "", str(beat.get("note") or "")]
        doing += [f"in unit {beat['unit']}" if "unit" in beat else ""]
        yield f"  where: node {beat['host']}, process {beat['pid']}{job}"
        said = [f"{minutes(rank.evidence.silent)} ago", *filter(None, doing)]
        yield f"  heard: {', '.join(said)}"
    if task is not None:
        told = f" ({task.reason})" if task.reason else ""
        ended = "" if task.pending or task.running else f", exit {task.exit}, signal {task.signal}"
        yield f"  Slurm: job {task.name} is {task.state}{told}{ended}, node {task.node or 'none yet'}"
    elif rank.evidence.submitted:
        yield f"  Slurm: {rank.evidence.silence or 'does not know its job any more'}"


def _what_to_type(run: Run, stage: StageStatus, rank: RankState, *, invocation: Invocation) -> Iterator[str]:
    if rank.state == "lost":
        yield "a rank that dies costs at most what it had not saved; if it dies again, give it more memory"
    if str(run.folder.root) in rank.reason:
        yield "if a file of the run may be damaged, this names all that are:"
        yield f"    {invocation.command('verify')}"
    if rank.state in {"failed", "lost"} and can_rerun(run, run.stages[stage.name]):
        yield "to run this rank alone, here, and see how it ends:"
        yield f"    {invocation.command('run-rank', stage.name, rank.rank)}"
    yield "to go on with everything, once the cause is mended:"
    yield f"    {invocation.command('all', cluster=True)}"
