"""`cemiface export`: convert a published or imported set, completely or not at all, with a list of hashes."""

from __future__ import annotations

from pathlib import Path

from rich.console import Console

from jobs.command.sets.new_folder import NewFolder
from jobs.stages.shared.imported_sets import public_manifest, registered, require_public
from shards.errors import DataError
from shards.exports.check import check
from shards.exports.formats import FORMATS
from shards.tars.reader import OpenTar
from shards.tars.shard_set import ShardSet
from slurm.certified import open_regular


def export_set(source: str, *, form: str, target: Path, sets: Path, console: Console) -> None:
    """Write the set, a folder or an imported name, into the new folder `target`.

    Raises:
        DataError: the set is private, incomplete or damaged, or the target exists.
    """
    folder = Path(source) if Path(source).is_dir() else registered(source, sets=sets)
    manifest = public_manifest(folder)
    problems = check(folder, manifest)
    if problems:
        raise DataError(f"{folder}: {problems[0]} ({len(problems)} problems); copy the set again")
    shards = ShardSet([_opened(folder, shard.name) for shard in manifest.shards])
    with NewFolder.at(target) as build:
        FORMATS[form](shards, opener=build.file, name=folder.resolve().name)
    console.print(f"{target}: {len(shards):,} images of {len(shards.classes):,} identities as {form}", highlight=False)


def _opened(folder: Path, name: str) -> OpenTar:
    """A tar of the set, which is a regular file and holds no real faces, whatever its manifest says."""
    tar = OpenTar(folder / name, descriptor=open_regular(folder / name, below=folder))
    require_public(tar)
    return tar
