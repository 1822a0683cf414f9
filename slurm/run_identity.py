"""Which run a folder is: a random id in `run.json`, which tells a copied run folder from a moved one."""

from __future__ import annotations

import os
import re
import secrets
import socket
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from slurm.files import publish_json, read_json
from slurm.partial_files import partial_path
from slurm.run_folder import RunFolder

Place = Literal["here", "moved", "copy", "unclear"]


@dataclass(frozen=True, kw_only=True)
class RunIdentity:
    """The id in a run folder, and what the folder is to the run that got it.

    Attributes:
        id: "" if no launch has made one yet, as in runs of older versions.
        made_at: the path at which the id was made, which is where the run's jobs work.
        place: "here": this folder, maybe by another path. "moved": it was moved here. "copy": the run is still at
            `made_at`. "unclear": one of these two; `made_at` cannot be seen from this machine.
    """

    id: str
    made_at: Path
    place: Place

    @property
    def owns_jobs(self) -> bool:
        """Whether jobs with this id are jobs of this folder."""
        return self.place in {"here", "moved"}


def read_identity(folder: RunFolder) -> RunIdentity:
    """The identity of a run folder; writes nothing."""
    found = _read(folder.root)
    if found is None:
        return RunIdentity(id="", made_at=folder.root, place="here")
    return RunIdentity(id=found["id"], made_at=Path(found["path"]), place=_place(folder.root, found))


def claim_identity(folder: RunFolder) -> RunIdentity:
    """The identity for a launch: made if there is none. A copy becomes a run of its own.

    The caller holds the run's lock. Unless the run is "here", it has seen that no job with the present id is left.
    """
    found = read_identity(folder)
    if found.place == "copy" and _is_shared(folder.root, found.made_at):
        return RunIdentity(id=found.id, made_at=found.made_at, place="here")
    if found.id and found.place == "here":
        return found
    if found.place == "copy":
        _forget_jobs(folder)
    id_ = found.id if found.place == "moved" else secrets.token_hex(6)
    facts = {"inode": os.stat(folder.root).st_ino, "host": socket.gethostname(), "made": time.time()}
    publish_json(folder.identity, {"id": id_, "path": str(folder.root), **facts}, replace=True)
    return RunIdentity(id=id_, made_at=folder.root, place="here")


def _forget_jobs(folder: RunFolder) -> None:
    """Remove what a copy says of the jobs of the run that was copied: their record, and that ranks are running."""
    for record in folder.root.glob("*/submission.json"):
        record.unlink(missing_ok=True)
    for path in folder.root.glob("*/beats/*.json"):
        heartbeat = read_json(path)
        if isinstance(heartbeat, dict) and heartbeat.get("state") == "running":
            path.unlink(missing_ok=True)


def _read(root: Path) -> dict[str, Any] | None:
    value = read_json(RunFolder(root).identity)
    if not isinstance(value, dict) or not isinstance(value.get("path"), str):
        return None
    return value if re.fullmatch(r"[0-9a-f]{1,64}", str(value.get("id"))) else None


def _place(root: Path, found: dict[str, Any]) -> Place:
    made_at = Path(found["path"])
    if root == made_at or os.path.realpath(root) == os.path.realpath(made_at):
        return "here"
    there = _read(made_at)
    if there is not None and there["id"] == found["id"]:
        return "here" if _is_same_folder(root, made_at) else "copy"
    if os.stat(root).st_ino == found.get("inode") or os.path.isdir(made_at.parent):
        return "moved"
    return "unclear"


def _is_same_folder(one: Path, other: Path) -> bool:
    """Whether two paths lead to one folder. The same file system mounted twice may have two device numbers.

    Then the numbers of two files are compared. Of folders on one device that of the folder decides: files of a copy
    may be hard links.
    """
    here, there = os.stat(one), os.stat(other)
    if here.st_dev == there.st_dev:
        return here.st_ino == there.st_ino
    files = (RunFolder(root).identity.stat().st_ino for root in (one, other))
    return here.st_ino == there.st_ino and len(set(files)) == 1


def _is_shared(one: Path, other: Path) -> bool:
    """Whether a file made in one folder appears in the other: some file systems have no stable inode numbers."""
    probe = partial_path(one / "probe")
    probe.touch()
    try:
        return os.path.exists(other / probe.name)
    finally:
        probe.unlink(missing_ok=True)
