"""`cemiface status`: the state of a run, once, live, or as JSON."""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Iterator
from typing import Any

from rich.console import Console, Group
from rich.live import Live
from rich.text import Text

from jobs.command.invocation import Invocation
from jobs.command.status_json import status_as_json
from jobs.command.status_text import advice, stage_line, status_table
from jobs.frame.run import Run
from jobs.watch.observer import Observer
from jobs.watch.status import RunStatus
from slurm.disk import exists

DONE, FAILED, AT_WORK, UNFINISHED, HELD = 0, 1, 3, 4, 5  # exit codes of `status`; 2 is wrong usage
POLL_SECONDS = 2.0
SLURM_POLL_SECONDS = 15.0  # to Slurm, whose controller serves all users


def show_status(run: Run, console: Console, *, invocation: Invocation, as_json: bool = False) -> int:
    """Print the status of the run; returns the exit code."""
    if not as_json and not exists(run.folder.root):
        launch = invocation.command("all", cluster=True)
        _say(console, f"{run.folder.root}: there is no such run yet; start it with: {launch}")
        return UNFINISHED
    status = Observer(run).poll()
    if as_json:
        print(json.dumps(status_as_json(run, status), indent=1))
    else:
        _print(run, status, invocation=invocation, console=console)
    return exit_code(status)


def watch_status(run: Run, console: Console, *, invocation: Invocation) -> int:
    """Show the status until nothing is running or queued any more; returns the exit code.

    If the output is not a terminal, print one line whenever a stage changes, and the whole status at the end.
    """
    polls = _polls(Observer(run, slurm_poll_seconds=SLURM_POLL_SECONDS))
    if not console.is_terminal:
        return _print_changes(run, polls, invocation=invocation, console=console)
    with Live(console=console, auto_refresh=False) as live:
        for status in polls:
            lines = [Text(line) for line in advice(run, status, invocation=invocation, width=console.width)]
            table = status_table(status, width=console.width)
            live.update(Group(str(run.folder.root), table, *lines), refresh=True)
    return exit_code(status)


def _print_changes(run: Run, polls: Iterator[RunStatus], *, invocation: Invocation, console: Console) -> int:
    printed: dict[str, Any] = {}
    for status in polls:
        for stage in status.stages:
            current = (stage.state, stage.units_done, Counter(rank.state for rank in stage.ranks), stage.restarts)
            if printed.get(stage.name, ("not started", 0, Counter(), Counter())) != current:
                printed[stage.name] = current
                print(f"{time.strftime('%H:%M:%S')} {stage_line(stage)}", flush=True)
    _print(run, status, invocation=invocation, console=console)
    return exit_code(status)


def exit_code(status: RunStatus) -> int:
    """The exit code that `status` ends with."""
    if status.done:
        return DONE
    if status.in_trouble:
        return FAILED
    if status.held:
        return HELD
    return AT_WORK if status.at_work else UNFINISHED


def _polls(observer: Observer) -> Iterator[RunStatus]:
    while True:
        started = time.monotonic()
        status = observer.poll()
        yield status
        if not status.at_work:
            return
        time.sleep(max(POLL_SECONDS, 4 * (time.monotonic() - started)))  # less often if a poll takes long


def _print(run: Run, status: RunStatus, *, invocation: Invocation, console: Console) -> None:
    _say(console, str(run.folder.root))
    console.print(status_table(status, width=console.width))
    for line in advice(run, status, invocation=invocation, width=console.width):
        _say(console, line)


def _say(console: Console, line: str) -> None:
    """Print a line that is not wrapped: it may hold a command to paste."""
    console.print(line, markup=False, highlight=False, soft_wrap=True)
