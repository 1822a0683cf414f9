"""`cemiface logs`: the logs of a stage, one per rank, or the output of a rank that exited before it had a log."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from jobs.frame.run import Run
from slurm.errors import RunError
from slurm.ranks.heartbeats import read_heartbeats
from slurm.run_folder import StageFolder
from slurm.submission.job_record import read_job_record

TAIL_BYTES = 256 * 1024  # how much of a log is read, from its end


def show_log(run: Run, *, stage: str, rank: int | None, lines: int, console: Console) -> None:
    """Print the last lines of one rank's log, or of all logs of a stage.

    Raises:
        RunError: there is no such log.
    """
    folder = run.stage_folder(stage)
    paths = sorted(folder.logs.glob("*.log")) if rank is None else _logs(folder, rank)
    if not paths:
        raise RunError(f"{folder.logs}: no log of {stage}{'' if rank is None else f' rank {rank}'} yet; run it first")
    for path in paths:
        console.print(f"[bold]{path}[/bold]", highlight=False, soft_wrap=True)
        for line in tail(path, lines=lines):
            console.print(line, markup=False, highlight=False, soft_wrap=True)


def _logs(folder: StageFolder, rank: int) -> list[Path]:
    own = folder.log(rank)
    return [own] if own.exists() else scheduler_logs(folder, rank)


def scheduler_logs(folder: StageFolder, rank: int) -> list[Path]:
    """The files that submitit writes the output of the rank's process to, the newest attempt first."""
    names = []
    record = read_job_record(folder)
    for job in record.jobs if record else ():
        number = rank - job.first_rank
        if not 0 <= number < job.ranks:
            continue
        index, process = (None, number) if job.kind == "distributed" else divmod(number, job.ranks_per_task)
        for local in {process, 0}:  # Slurm's own messages are in the file of process 0
            names += [f"{job.job}_{index}_{local}", f"{job.job}_{local}"]
    for heartbeat in read_heartbeats(folder):
        if heartbeat.rank == rank and heartbeat.worker.job:
            names += [f"{heartbeat.worker.job}_{rank}", f"{heartbeat.worker.job}_0"]
    paths = [folder.submitit_logs / f"{name}_log.{kind}" for name in names for kind in ("out", "err")]
    found = {path: path.stat().st_mtime for path in paths if path.exists()}
    return sorted(found, key=lambda path: found[path], reverse=True)


def tail(path: Path, *, lines: int) -> Sequence[str]:
    """The last lines of a text file, without control characters; none if it cannot be read."""
    try:
        with open(path, "rb") as file:
            file.seek(max(0, os.fstat(file.fileno()).st_size - TAIL_BYTES))
            text = file.read().decode(errors="replace")
    except OSError:
        return []
    return [_printable(line) for line in text.splitlines()[-lines:]]


def _printable(line: str) -> str:
    return "".join(character if character.isprintable() or character == "\t" else "?" for character in line)
