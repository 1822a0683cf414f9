"""`cemiface export`: convert a published or imported set, completely or not at all, with a list of hashes."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console

from jobs.stages.shared.imported_sets import public_manifest, registered, require_public
from shards.errors import DataError
from shards.exports.check import check
from shards.exports.formats import FORMATS, SUMS
from shards.tars.reader import OpenTar
from shards.tars.shard_set import ShardSet
from slurm.certified import open_regular
from slurm.files import PartialFile, sync_folder
from slurm.partial_files import partial_path


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
    if target.exists():
        raise DataError(f"{target}: exists; give a new folder with --to")
    target.parent.mkdir(parents=True, exist_ok=True)
    shards = ShardSet([_opened(folder, shard.name) for shard in manifest.shards])
    build = _Build(partial_path(target))
    try:
        FORMATS[form](shards, opener=build.file, name=folder.resolve().name)
        build.finish()
        os.rename(build.root, target)
        sync_folder(target.parent)
    finally:
        shutil.rmtree(build.root, ignore_errors=True)
    console.print(f"{target}: {len(shards):,} images of {len(shards.classes):,} identities as {form}", highlight=False)


def _opened(folder: Path, name: str) -> OpenTar:
    """A tar of the set, which is a regular file and holds no real faces, whatever its manifest says."""
    tar = OpenTar(folder / name, descriptor=open_regular(folder / name, below=folder))
    require_public(tar)
    return tar


class _Build:
    """A folder under a temporary name whose files are hashed while they are written."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._sums: list[str] = []
        root.mkdir()

    @contextmanager
    def file(self, name: str) -> Iterator[PartialFile]:
        """Open a new file of the export; its hash is recorded when it is closed."""
        path = self.root / name
        assert path.is_relative_to(self.root)
        assert ".." not in path.parts
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(path, "xb") as file:
            part = PartialFile(file, path=path)
            yield part
        self._sums.append(f"{part.output(name).sha256}  {name}\n")

    def finish(self) -> None:
        """Write the hashes, and make everything durable at once: a sync per image would take hours."""
        (self.root / SUMS).write_text("".join(sorted(self._sums, key=lambda line: line[66:])))
        os.sync()
