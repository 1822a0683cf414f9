"""The picture of a run's status: a table, what is wrong in words, what to type next; once, live, or as JSON."""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Iterator
from typing import Any

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from jobs.command.invocation import Invocation
from jobs.frame.run import Run
from jobs.watch.observer import Observer
from jobs.watch.rank_states import RankState, minutes
from jobs.watch.status import RunStatus, StageStatus

DONE, FAILED, AT_WORK, LEFT = 0, 1, 3, 4  # exit codes of `status`; 2 is wrong usage

WIDE = 120  # columns from which the reasons have room in the table

TROUBLES_SHOWN = 3  # per stage

SECONDS_BETWEEN_LOOKS = 2.0

SECONDS_BETWEEN_QUESTIONS = 15.0  # to Slurm, whose controller serves everybody

STYLES = {"done": "green", "running": "cyan", "queued": "blue", "failed": "bold red", "lost": "bold red"}


def show_status(run: Run, console: Console, *, invocation: Invocation, as_json: bool = False) -> int:
    """Print how the run stands; returns the exit code."""
    status = Observer(run).look()
    if as_json:
        print(json.dumps(status_as_json(run, status), indent=1))
    else:
        _print(run, status, invocation=invocation, console=console)
    return exit_code(status)


def watch_status(run: Run, console: Console, *, invocation: Invocation) -> int:
    """Show how the run stands until nobody is at work on it any more; returns the exit code.

    Into a pipe goes one line whenever a stage changes, and the whole picture at the end.
    """
    looks = _looks(Observer(run, seconds_between_questions=SECONDS_BETWEEN_QUESTIONS))
    if console.is_terminal:
        with Live(console=console, auto_refresh=False) as live:
            for status in looks:
                lines = [Text(line) for line in _lines(run, status, invocation=invocation, width=console.width)]
                live.update(Group(str(run.folder.root), _table(status, width=console.width), *lines), refresh=True)
        return exit_code(status)
    told: dict[str, Any] = {}
    for status in looks:
        for stage in status.stages:
            change = (stage.state, stage.units_done, Counter(rank.state for rank in stage.ranks), stage.restarts)
            if told.get(stage.name, ("not started", 0, Counter(), Counter())) != change:
                told[stage.name] = change
                print(f"{time.strftime('%H:%M:%S')} {_line(stage)}", flush=True)
    _print(run, status, invocation=invocation, console=console)
    return exit_code(status)


def exit_code(status: RunStatus) -> int:
    if status.done:
        return DONE
    if status.in_trouble:
        return FAILED
    return AT_WORK if status.at_work else LEFT


def _looks(observer: Observer) -> Iterator[RunStatus]:
    while True:
        started = time.monotonic()
        status = observer.look()
        yield status
        if not status.at_work:
            return
        time.sleep(max(SECONDS_BETWEEN_LOOKS, 4 * (time.monotonic() - started)))  # of large runs, less often


def _print(run: Run, status: RunStatus, *, invocation: Invocation, console: Console) -> None:
    """The picture, once. Lines outside of the table are not folded: they hold commands to paste."""
    console.print(str(run.folder.root), markup=False, highlight=False, soft_wrap=True)
    console.print(_table(status, width=console.width))
    for line in _lines(run, status, invocation=invocation, width=console.width):
        console.print(line, markup=False, highlight=False, soft_wrap=True)


def _table(status: RunStatus, *, width: int) -> Table:
    table = Table(box=None, pad_edge=False)
    restarts = any(stage.restarts for stage in status.stages)
    columns = ["stage", "state", "units", "images", "images/s", "time"]
    for column in [*columns, *(["restarts"] if restarts else []), *(["reason"] if width >= WIDE else [])]:
        right = column in {"units", "images", "images/s", "time"}
        table.add_column(column, justify="right" if right else "left", overflow="fold", no_wrap=right)
    for stage in status.stages:
        state = Text(stage.state, style=STYLES.get(stage.state, ""))
        cells: list[RenderableType] = [stage.name, state, *_figures(stage)]
        cells += [_restarts(stage.restarts) or "-"] if restarts else []
        table.add_row(*cells, *([Text(stage.reason)] if width >= WIDE else []))
    return table


def _figures(stage: StageStatus) -> tuple[str, str, str, str]:
    """Units, images, images per second, and the time it took or will still take."""
    if stage.units is None:
        return "-", "-", "-", "-"
    at_work = stage.state == "running"
    images = "-" if stage.images is None else str(stage.images)
    if stage.state not in {"done", "stale"} and stage.images_expected is not None:
        images = f"{stage.images}/{stage.images_expected}"
    pace = "-" if stage.images_per_second is None else f"{stage.images_per_second:.4g}"
    left = "-" if stage.seconds_left is None else f"{minutes(stage.seconds_left)} left"
    took = "-" if stage.seconds is None else minutes(stage.seconds)
    return f"{stage.units_done}/{stage.units}", images, pace, left if at_work else took


def _restarts(ends: Counter[str]) -> str:
    return ", ".join(f"{count} {end}" for end, count in ends.most_common())


def _line(stage: StageStatus) -> str:
    units, images, pace, left = _figures(stage)
    figures = f"{units} units, {images} images, {pace} images/s, {left}"
    words = [f"{stage.name}: {stage.state}, {figures}", _restarts(stage.restarts), stage.reason]
    return "; ".join(filter(None, words))


def _lines(run: Run, status: RunStatus, *, invocation: Invocation, width: int) -> list[str]:
    """Reasons that had no room in the table, ranks in trouble, and what to type next."""
    lines = [""]
    if width < WIDE:
        lines += [f"{stage.name}: {stage.reason}" for stage in status.stages if stage.reason and not stage.troubled]
    for stage in status.stages:
        for rank in stage.troubled[:TROUBLES_SHOWN]:
            lines.append(f"rank {rank.rank} of {stage.name} {describe(rank)}")
            lines.append(f"    {invocation.command('why', stage.name, rank.rank)}")
        if len(stage.troubled) > TROUBLES_SHOWN:
            lines.append(f"and {len(stage.troubled) - TROUBLES_SHOWN} more ranks of {stage.name}")
    if status.silence:
        lines.append(f"Slurm tells nothing ({status.silence}): this is what markers and heartbeats say")
    again = invocation.command("all", cluster=True)
    if status.done:
        lines.append(f"all is done; it is in {run.folder.root}")
    elif status.at_work:
        lines.append(f"watch it: {invocation.command('status', '--watch')}")
    elif status.in_trouble:
        lines.append(f"once the cause is mended, go on with: {again}")
    else:
        lines.append(f"go on with: {again}")
    return lines


def describe(rank: RankState) -> str:
    """State, node, exit code, restarts and reason of one rank, as one sentence."""
    parts = [rank.state + (f" on {rank.node}" if rank.node else "")]
    parts += [f"exit {rank.exit}"] if rank.exit is not None else []
    parts += [f"after {_restarts(rank.restarts)}"] if rank.restarts else []
    return ", ".join(parts) + (f": {rank.reason}" if rank.reason else "")


def status_as_json(run: Run, status: RunStatus) -> dict[str, Any]:
    """Everything `status` knows, for scripts."""
    return {
        "run": str(run.folder.root),
        "done": status.done,
        "at_work": status.at_work,
        "in_trouble": status.in_trouble,
        "slurm": status.silence,
        "stages": [_stage_as_json(stage) for stage in status.stages],
    }


def _stage_as_json(stage: StageStatus) -> dict[str, Any]:
    plain = {name: value for name, value in vars(stage).items() if name != "ranks"}
    return {**plain, "restarts": stage.restarts, "ranks": [_rank_as_json(rank) for rank in stage.ranks]}


def _rank_as_json(rank: RankState) -> dict[str, Any]:
    beat, task = rank.evidence.beat or {}, rank.evidence.task
    return {
        "rank": rank.rank,
        "state": rank.state,
        "reason": rank.reason,
        "node": rank.node,
        "exit": rank.exit,
        "restarts": rank.restarts,
        "images": beat.get("images"),
        "pid": beat.get("pid"),
        "silent_seconds": round(rank.evidence.silent, 1) if beat else None,
        "job": task.name if task else None,
        "job_state": task.state if task else None,
    }
