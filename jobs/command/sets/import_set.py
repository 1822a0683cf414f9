"""`cemiface import`: copy a published set into `sets/`, check every byte, and list what to copy again.

Works without a network. Rerun to resume: files that were copied undamaged stay, the others are copied again.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from rich.console import Console

from jobs.stages.shared.imported_sets import SET_NAME, public_manifest, require_public
from jobs.stages.shared.sets import MADE_HERE
from shards.errors import DataError
from shards.exports.check import SIGNATURE, check, marks, require_no_program, require_nothing_else, signed
from shards.tars.manifest import NAME as MANIFEST
from shards.tars.manifest import File, Manifest, read_manifest
from shards.tars.reader import OpenTar
from slurm.certified import NotRegularError, open_regular, read_regular
from slurm.files import publishing, sha256_of, sync_folder
from slurm.names import why_not_a_name
from slurm.partial_files import sweep

CHUNK = 2**20


def import_set(source: Path, *, sets: Path, name: str | None, console: Console, signer: Path | None = None) -> bool:
    """Copy the set in `source` to `sets/<name>`; returns whether it is complete and undamaged.

    Prints one line per file that is missing or damaged, and what to copy again.

    Args:
        signer: a public key, or a file of allowed signers, of whom the set has to be.

    Raises:
        DataError: no readable manifest, private shards, a file that the manifest does not name, the name is taken
            by another set, or the set is not signed by the signer.
    """
    manifest = public_manifest(source)
    signature = signed(source, _manifest_again(source, manifest), signer=signer)
    name = _checked_name(name or source.resolve().name)
    final, partial = sets / name, sets / f".{name}.importing"
    if final.exists() and read_manifest(final / MANIFEST) != manifest:
        raise DataError(f"{final}: is another set with this name; give this set another name with --name")
    require_nothing_else(source, manifest)
    require_no_program(source, manifest)
    if final.exists():
        problems = check(final, manifest)
        if not problems:
            _refuse_private(final, manifest, of=source)
        what = f"{name} is registered already; {marks(manifest)}; {signature}"
        return _report(problems, folder=final, console=console, what=what)
    sets.mkdir(parents=True, exist_ok=True)
    partial.mkdir(mode=0o700, exist_ok=True)
    sweep(partial)
    problems = [
        problem
        for entry in (*manifest.shards, *manifest.files)
        if (problem := _copied(entry, source=source, target=partial))
    ]
    if not problems:
        with publishing(partial / MANIFEST, replace=True) as file:
            file.write(_manifest_again(source, manifest))
        _copy_signature(source, partial)
        problems = check(partial, manifest)
    if not problems:
        signature = signed(partial, read_regular(partial / MANIFEST), signer=signer)
        try:
            _refuse_private(partial, manifest, of=source)
        except DataError:
            shutil.rmtree(partial)  # real faces are not left behind
            raise
        os.rename(partial, final)
        sync_folder(sets)
    what = f"{name}: {manifest.totals.samples:,} images in {manifest.totals.shards:,} tars, registered in {sets}"
    what = f"{what}; {marks(manifest)}; {signature}"
    return _report(problems, folder=source, console=console, what=what)


def _checked_name(name: str) -> str:
    """A name under which a set may be registered.

    Raises:
        DataError: it is none.
    """
    if not SET_NAME.fullmatch(name):
        raise DataError(f"name: got {name!r}, allowed are a-z 0-9 . _ - after a letter or digit; give one with --name")
    of_runs = f"any name but {' and '.join(MADE_HERE)}, which are the sets of a run"
    allowed = of_runs if name in MADE_HERE else why_not_a_name(name)
    if allowed:
        raise DataError(f"name: got {name!r}, allowed: {allowed}; give one with --name")
    return name


def _refuse_private(folder: Path, manifest: Manifest, *, of: Path) -> None:
    """Refuse tars of real faces in `folder`, the copies of those in `of`, whatever the manifest says."""
    for shard in manifest.shards:
        descriptor = open_regular(folder / shard.name, below=folder)
        with OpenTar(of / shard.name, descriptor=descriptor) as tar:  # named as the user knows it
            require_public(tar)


def _manifest_again(source: Path, manifest: Manifest) -> bytes:
    """The manifest's file as it is, once more; it was read to plan the copies."""
    data = read_regular(source / MANIFEST)
    if read_manifest(source / MANIFEST, data=data) != manifest:
        raise DataError(f"{source / MANIFEST}: changed during the import; run the same command again")
    return data


def _copy_signature(source: Path, target: Path) -> None:
    """Copy the signature of the manifest, if there is one."""
    try:
        data = read_regular(source / SIGNATURE)
    except FileNotFoundError:
        (target / SIGNATURE).unlink(missing_ok=True)  # of an earlier attempt
        return
    with publishing(target / SIGNATURE, replace=True) as file:
        file.write(data)


def _copied(entry: File, *, source: Path, target: Path) -> str | None:
    """Copy one file unless it is there already, checking its hash on the way; returns what is wrong, or None."""
    copy = target / entry.name
    if copy.is_file() and copy.stat().st_size == entry.bytes and sha256_of(copy) == entry.sha256:
        return None
    try:
        opened = open_regular(source / entry.name, below=source)
        with os.fdopen(opened, "rb") as original, publishing(copy, replace=True) as file:
            while chunk := original.read(CHUNK):
                file.write(chunk)
            found = file.output(entry.name)
            if (found.bytes, found.sha256) != (entry.bytes, entry.sha256):
                raise _DamagedError(f"damaged, {found.bytes} bytes of {entry.bytes}, sha256 {found.sha256[:12]}")
    except FileNotFoundError:
        return f"{entry.name}: missing"
    except _DamagedError as error:
        return f"{entry.name}: {error}"
    except NotRegularError:
        return f"{entry.name}: a link, folder, FIFO or device where a regular file should be"
    except OSError as error:
        return f"{entry.name}: unreadable: {error.strerror}"
    return None


class _DamagedError(Exception):
    """A copy with the wrong hash; raised inside `publishing`, which then writes no file."""


def _report(problems: list[str], *, folder: Path, console: Console, what: str) -> bool:
    """Print the problems, or `what` if there are none; returns whether there are none."""
    for problem in problems:
        console.print(problem, markup=False, highlight=False, soft_wrap=True)
    if problems:
        names = " ".join(sorted({problem.partition(":")[0] for problem in problems}))
        what = f"{folder}: is incomplete or damaged; copy these again and rerun the same command: {names}"
    console.print(what, markup=False, highlight=False, soft_wrap=True)
    return not problems
