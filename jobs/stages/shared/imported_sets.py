"""Published sets that were imported: folders under `sets/`, known by name."""

from __future__ import annotations

import re
from pathlib import Path

from shards.errors import DataError
from shards.tars.manifest import NAME as MANIFEST
from shards.tars.manifest import Manifest, read_manifest
from shards.tars.private import why_private
from shards.tars.reader import OpenTar
from slurm.certified import read_regular

SETS = "sets"  # folder of imported sets, beside `runs`

SET_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,79}")


def registered(name: str, *, sets: Path) -> Path:
    """The folder of an imported set.

    Raises:
        DataError: there is no set of this name, with the names that there are.
    """
    folder = sets / name
    if SET_NAME.fullmatch(name) and (folder / MANIFEST).is_file():
        return folder
    known = sorted(path.parent.name for path in sets.glob(f"[a-z0-9]*/{MANIFEST}"))
    raise DataError(
        f"{name}: no imported set of this name in {sets}; "
        + (f"there are: {', '.join(known)}" if known else "import one with `cemiface import FOLDER`")
    )


def public_manifest(folder: Path) -> Manifest:
    """The manifest of a published set.

    Raises:
        DataError: there is none, or it is one of private shards of real faces.
        RunError: it is no regular file.
    """
    try:
        data = read_regular(folder / MANIFEST)
    except (FileNotFoundError, NotADirectoryError):
        raise DataError(
            f"{folder}: no {MANIFEST} there; give the folder of a published set, and copy that file too"
        ) from None
    except OSError as error:
        raise DataError(f"{folder / MANIFEST}: {error.strerror}; copy it again") from None
    manifest = read_manifest(folder / MANIFEST, data=data)
    if manifest.private:
        raise DataError(f"{folder}: is marked private: it holds real faces; give a published set")
    return manifest


def require_public(tar: OpenTar) -> None:
    """Refuse a tar of real faces, whatever the manifest beside it says.

    Raises:
        DataError: its headers or its records are those of real faces; or it is damaged.
    """
    reason = why_private(tar)
    if reason is not None:
        raise DataError(f"{tar.path}: holds real faces: {reason}; give a published set, and keep this one private")


def tars_of(name: str, *, sets: Path) -> list[Path]:
    """The tars of an imported set, in the order of its manifest."""
    folder = registered(name, sets=sets)
    return [folder / shard.name for shard in public_manifest(folder).shards]
