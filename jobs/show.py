"""What people ask about a run: status, plan, logs, verify. Everything is read from the config and the run folder."""

from __future__ import annotations

import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from jobs.stage import Run, Stage
from slurm.beats import read_beats, this_worker
from slurm.errors import RunError
from slurm.files import is_alive, read_json, sha256_of

SECONDS_UNHEARD = 300.0  # a rank of another host counts as gone after that


def show_status(run: Run, console: Console) -> bool:
    """One line per stage; returns whether the whole chain is done."""
    table = Table(title=f"{run.folder.root}", title_justify="left", box=None, pad_edge=False)
    for column in ("stage", "state", "units", "in", "out", "images/s", "wall s", "note"):
        right = column in {"units", "in", "out", "images/s", "wall s"}
        table.add_column(column, justify="right" if right else "left", overflow="fold")
    unfinished: set[str] = set()
    for stage in run.chain:
        waits = [name for name in stage.needs(run) if name in unfinished]
        state, row = _stage_row(run, stage, waits=waits)
        if state != "done":
            unfinished.add(stage.name)
        table.add_row(stage.name, state, *row)
    console.print(table)
    return not unfinished


def _stage_row(run: Run, stage: Stage, *, waits: Sequence[str]) -> tuple[str, tuple[str, ...]]:
    folder = run.stage_folder(stage.name)
    summary: dict[str, Any] = read_json(folder.summary) or {}
    states = run.unit_states(stage)
    done = sum(state is None for state in states)
    why = run.why_not_finished(stage)
    beats = read_beats(folder)
    failed = next((beat for beat in beats if beat.get("state") == "failed"), None)
    running = [beat for beat in beats if beat.get("state") == "running" and _is_heard(beat)]
    note = ""
    if why is None and waits:
        state, note = "stale", f"made from an earlier {', '.join(waits)}"
    elif why is None:
        state = "done"
    elif running:
        state, note = "running", f"{sum(beat.get('images', 0) for beat in running)} images {running[0].get('note', '')}"
    elif failed:
        state, note = "failed", f"rank {failed['rank']}: {failed.get('reason', '')}"
    elif done or summary:
        state, note = ("stale", why) if why.startswith("stale") else ("partial", why)
    else:
        state = "not started"
    figures = [str(summary.get(key, "-")) for key in ("images_in", "images_out", "images_per_second", "wall_seconds")]
    return state, (f"{done}/{len(states)}", *(figures if state == "done" else ["-"] * 4), note)


def _is_heard(beat: dict[str, Any]) -> bool:
    """Whether the rank lives; of another host only its last heartbeat is known."""
    if beat["host"] == this_worker()["host"]:
        return is_alive(beat["pid"])
    return time.time() - beat["time"] < SECONDS_UNHEARD


def show_log(run: Run, *, stage: str, rank: int | None, lines: int, console: Console) -> None:
    """The last lines of one rank's log, or of all ranks of a stage.

    Raises:
        RunError: there is no such log.
    """
    folder = run.stage_folder(stage)
    paths = sorted(folder.logs.glob("*.log")) if rank is None else [folder.log(rank)]
    if not paths or not paths[0].exists():
        raise RunError(f"{folder.logs}: no log of {stage} rank {rank if rank is not None else 'any'} yet; run it first")
    for path in paths:
        console.print(f"[bold]{path}[/bold]", highlight=False, soft_wrap=True)
        for line in path.read_text(errors="replace").splitlines()[-lines:]:
            console.print(line, markup=False, highlight=False, soft_wrap=True)


def verify(run: Run, console: Console) -> bool:
    """Rehash every output of every finished stage; prints all differences at once, returns whether there is none."""
    expected: dict[Path, str] = {}
    for stage in run.chain:
        folder = run.stage_folder(stage.name)
        summary = read_json(folder.summary) or {"outputs": []}
        expected |= {folder.output(output["name"]): output["sha256"] for output in summary["outputs"]}
    with ThreadPoolExecutor() as pool:
        problems = [problem for problem in pool.map(_problem, expected.items()) if problem]
    for problem in problems:
        console.print(problem, markup=False, highlight=False, soft_wrap=True)
    console.print(f"{len(expected) - len(problems)} of {len(expected)} files are whole", highlight=False)
    return not problems


def _problem(item: tuple[Path, str]) -> str | None:
    path, sha256 = item
    try:
        found = sha256_of(path)
    except OSError as error:
        return f"{path}: {error.strerror}; run the same command again to make it anew"
    if found != sha256:
        return f"{path}: sha256 is {found[:12]}, its marker says {sha256[:12]}; remove it and run again"
    return None
