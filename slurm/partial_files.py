"""Names of files and folders that are still being written, and the removal of those whose writer is gone."""

from __future__ import annotations

import os
import re
import secrets
import shutil
import socket
from pathlib import Path

from slurm.processes import is_alive

OWNER = re.compile(r"\..+@(?P<host>.+)-(?P<pid>[0-9]+)-[0-9a-f]{8}\.part")


def partial_path(path: Path) -> Path:
    """A temporary name beside `path`. It holds the host and the process id of the writer, see `sweep`."""
    return path.parent / f".{path.name}@{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(4)}.part"


def sweep(folder: Path, *, all_hosts: bool = False) -> list[str]:
    """Remove the partial files of ended processes anywhere below `folder`; returns their names.

    Nothing is known about processes of other hosts, so their files stay. With `all_hosts` the caller guarantees that
    no other host is writing here, and their files are removed as well. What cannot be removed stays: it does no harm.
    """
    swept = []
    for path in _partial_files(folder):
        owner = OWNER.fullmatch(path.name)
        if owner is None:
            continue
        here = owner["host"] == socket.gethostname()
        if is_alive(int(owner["pid"])) if here else not all_hosts:
            continue
        try:
            if path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink(missing_ok=True)
        except OSError:
            continue
        swept.append(path.name)
    return swept


def _partial_files(folder: Path) -> list[Path]:
    """Files and folders that look like partial ones; folders that cannot be read are passed over."""
    found = []
    for root, folders, files in os.walk(folder):
        found += [Path(root, name) for name in (*folders, *files) if name.startswith(".") and name.endswith(".part")]
    return sorted(found)
