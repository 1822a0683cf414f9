"""`cemiface verify`: rehash every file that the finished stages made."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from rich.console import Console

from jobs.frame.run import Run
from slurm.files import read_json, sha256_of


def verify(run: Run, console: Console) -> bool:
    """Rehash every output of every finished stage; prints all damaged files, returns whether there are none."""
    expected: dict[Path, str] = {}
    for stage in run.chain:
        folder = run.stage_folder(stage.name)
        summary = read_json(folder.summary) or {"outputs": []}
        expected |= {folder.output(output["name"]): output["sha256"] for output in summary["outputs"]}
    with ThreadPoolExecutor() as pool:
        problems = [problem for problem in pool.map(_problem, expected.items()) if problem]
    for problem in problems:
        console.print(problem, markup=False, highlight=False, soft_wrap=True)
    console.print(f"{len(expected) - len(problems)} of {len(expected)} files are undamaged", highlight=False)
    return not problems


def _problem(item: tuple[Path, str]) -> str | None:
    path, sha256 = item
    try:
        found = sha256_of(path)
    except OSError as error:
        return f"{path}: {error.strerror}; rerun the stage to make it again"
    if found != sha256:
        return f"{path}: sha256 is {found[:12]}, recorded is {sha256[:12]}; remove it and run again"
    return None
