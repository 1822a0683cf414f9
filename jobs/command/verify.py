"""`cemiface verify`: rehash every file that the finished stages made, and look at the marks of what was published."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from rich.console import Console

from jobs.frame.products import PUBLISH
from jobs.frame.run import Run
from jobs.frame.summary import read_summary
from shards.exports.check import marks, signed, unmarked
from shards.tars.manifest import NAME as MANIFEST
from shards.tars.manifest import read_manifest
from slurm.disk import exists
from slurm.errors import DiskError, RunError
from slurm.files import sha256_of


def verify(run: Run, console: Console, *, signer: Path | None = None) -> bool:
    """Rehash every output of every finished stage; prints all damaged files, returns whether there are none.

    Args:
        signer: a public key, or a file of allowed signers, of whom the published set has to be.

    Raises:
        RunError: there is no such run, or nothing to check in it.
        DataError: the published set is not signed by the signer.
    """
    root = run.folder.root
    if not exists(root):
        raise RunError(f"{root}: there is no such run; check `name` and `runs` of the config, or run it first")
    expected: dict[Path, str] = {}
    problems, published = [], []
    for stage in run.chain:
        folder = run.stage_folder(stage.name)
        summary = read_summary(folder)
        if summary is None and exists(folder.summary):
            problems.append(f"{folder.summary}: is damaged; remove it and run `cemiface {stage.name}` again")
        for output in summary.outputs if summary else ():
            expected[folder.output(output.name)] = output.sha256
            if stage.name == PUBLISH and output.name.endswith(f"/{MANIFEST}"):
                published.append(folder.output(output.name).parent)
    if not expected and not problems:
        raise RunError(f"{root}: no stage is finished, so there is nothing to check; see `cemiface status`")
    damaged = list(_damaged(expected))
    problems += damaged
    notes = []
    for copy in [] if problems else published:
        manifest = read_manifest(copy / MANIFEST)
        problems += [f"{copy}: {problem}" for problem in unmarked(copy, manifest)]
        signature = signed(copy, (copy / MANIFEST).read_bytes(), signer=signer)
        notes.append(f"{copy.name}: {marks(manifest)}; {signature}")
    for problem in problems:
        console.print(problem, markup=False, highlight=False, soft_wrap=True)
    console.print(f"{len(expected) - len(damaged)} of {len(expected)} files are undamaged", highlight=False)
    for note in [] if problems else notes:
        console.print(note, markup=False, highlight=False, soft_wrap=True)
    return not problems


def _damaged(expected: dict[Path, str]) -> Iterator[str]:
    with ThreadPoolExecutor() as pool:
        yield from (problem for problem in pool.map(_problem, expected.items()) if problem)


def _problem(item: tuple[Path, str]) -> str | None:
    path, sha256 = item
    try:
        found = sha256_of(path)
    except FileNotFoundError as error:
        return f"{path}: {error.strerror}; rerun the stage to make it again"
    except DiskError as error:
        return str(error)
    if found != sha256:
        return f"{path}: sha256 is {found[:12]}, recorded is {sha256[:12]}; remove it and run again"
    return None
