"""The status of a run as text: a table of stages, the failed or lost ranks, and the command to run next."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from jobs.command.invocation import Invocation
from jobs.frame.run import Run
from jobs.stages.shard.left_out import left_out
from jobs.watch.pending_reasons import held_together
from jobs.watch.rank_states import RankState
from jobs.watch.status import RunStatus, StageStatus
from jobs.watch.task_reasons import duration

WIDE = 120  # terminal columns from which the table has a column of reasons
RANKS_SHOWN = 3  # failed or lost ones, per stage
COLUMNS = ("stage", "state", "units", "images", "images/s", "time")
RIGHT = {"units", "images", "images/s", "time"}  # aligned
STYLES = {
    "done": "green",
    "running": "cyan",
    "queued": "blue",
    "held": "bold red",
    "failed": "bold red",
    "lost": "bold red",
}


def status_table(status: RunStatus, *, width: int) -> Table:
    """One row per stage. Restarts are a column if there were any, reasons if the terminal is wide."""
    table = Table(box=None, pad_edge=False)
    restarts = any(stage.restarts for stage in status.stages)
    for column in [*COLUMNS, *(["restarts"] if restarts else []), *(["reason"] if width >= WIDE else [])]:
        right = column in RIGHT
        table.add_column(column, justify="right" if right else "left", overflow="fold", no_wrap=right)
    for stage in status.stages:
        state = Text(stage.state, style=STYLES.get(stage.state, ""))
        cells: list[RenderableType] = [stage.name, state, *_figures(stage)]
        cells += [_restarts(stage.restarts) or "-"] if restarts else []
        table.add_row(*cells, *([Text(stage.reason)] if width >= WIDE else []))
    return table


def _figures(stage: StageStatus) -> tuple[str, str, str, str]:
    """Units, images, images per second, and the time that the stage took or has left."""
    if stage.units is None:
        return "-", "-", "-", "-"
    images = "-" if stage.images is None else str(stage.images)
    if stage.state not in {"done", "stale"} and stage.images_expected is not None:
        images = f"{stage.images}/{stage.images_expected}"
    throughput = "-" if stage.images_per_second is None else f"{stage.images_per_second:.4g}"
    left = "-" if stage.seconds_left is None else f"{duration(stage.seconds_left)} left"
    took = "-" if stage.seconds is None else duration(stage.seconds)
    return f"{stage.units_done}/{stage.units}", images, throughput, left if stage.state == "running" else took


def _restarts(ends: Counter[str]) -> str:
    return ", ".join(f"{count} {end}" for end, count in ends.most_common())


def stage_line(stage: StageStatus) -> str:
    """The status of one stage in one line."""
    units, images, throughput, seconds = _figures(stage)
    figures = f"{units} units, {images} images, {throughput} images/s, {seconds}"
    parts = [f"{stage.name}: {stage.state}, {figures}", _restarts(stage.restarts), stage.reason]
    return "; ".join(filter(None, parts))


def advice(run: Run, status: RunStatus, *, invocation: Invocation, width: int) -> list[str]:
    """The lines below the table: reasons that do not fit into it, failed or lost ranks, and the command to run next."""
    lines = [""]
    if width < WIDE:
        told = [stage for stage in status.stages if stage.reason and not (stage.troubled or stage.in_state("held"))]
        lines += [f"{stage.name}: {stage.reason}" for stage in told]
    for stage in status.stages:
        lines += _trouble(stage, invocation=invocation)
        lines += _held(stage)
    if status.no_answer:
        lines.append(f"Slurm gave no answer ({status.no_answer}); the status is from markers and heartbeats only")
    if status.jobless:
        launch = invocation.command("all", cluster=True)
        lines.append(f"not submitted, or only in part: {', '.join(status.jobless)}; submit what is missing: {launch}")
    if status.no_accounts:
        lines.append(f"Slurm's accounting gave no answer ({status.no_accounts}); how older jobs ended is not known")
    left = list(left_out(run))
    if not status.done:
        return [*lines, *left, _next_command(run, status, invocation=invocation)]
    return [*lines, "; ".join([_next_command(run, status, invocation=invocation), *left])]


def _trouble(stage: StageStatus, *, invocation: Invocation) -> Iterator[str]:
    for rank in stage.troubled[:RANKS_SHOWN]:
        yield f"rank {rank.rank} of {stage.name} {describe(rank)}"
        yield f"    {invocation.command('why', stage.name, rank.rank)}"
    if len(stage.troubled) > RANKS_SHOWN:
        yield f"and {len(stage.troubled) - RANKS_SHOWN} more ranks of {stage.name}"


def _held(stage: StageStatus) -> Iterator[str]:
    """The held ranks of a stage, together."""
    held = stage.in_state("held")
    if held:
        causes = "; ".join(held_together([rank.facts.task for rank in held if rank.facts.task]))
        yield f"{stage.name}: {len(held)} of {len(stage.ranks)} ranks never start by themselves: {causes}"


def _next_command(run: Run, status: RunStatus, *, invocation: Invocation) -> str:
    resume = invocation.command("all", cluster=True)
    if status.done:
        return f"all done, see {run.folder.root}"
    if status.at_work:
        return f"watch it: {invocation.command('status', '--watch')}"
    if status.in_trouble or status.held:
        return f"once the cause is fixed, resume with: {resume}"
    return f"resume with: {resume}"


def describe(rank: RankState) -> str:
    """State, node, exit code, restarts and reason of one rank, as one sentence."""
    parts = [rank.state + (f" on {rank.node}" if rank.node else "")]
    parts += [f"exit {rank.exit}"] if rank.exit is not None else []
    parts += [f"after {_restarts(rank.restarts)}"] if rank.restarts else []
    return ", ".join(parts) + (f": {rank.reason}" if rank.reason else "")
