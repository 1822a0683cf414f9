"""The versions, commit and host a run was launched with; nothing else of the environment is recorded."""

from __future__ import annotations

import os
import platform
import socket
import subprocess
import time
from importlib import metadata
from pathlib import Path
from typing import Any

PACKAGES = ("torch", "deepspeed", "submitit", "webdataset", "h5py", "numpy", "pillow", "simplejpeg", "safetensors")


def provenance(code: Path) -> dict[str, Any]:
    """Git commit of `code`, package versions, python, host and time of this launch."""
    return {
        "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "host": socket.gethostname(),
        "cores": len(os.sched_getaffinity(0)),
        "python": platform.python_version(),
        "platform": platform.platform(),
        "packages": {name: _version(name) for name in PACKAGES},
        "git": _commit(code),
    }


def _commit(code: Path) -> dict[str, Any]:
    """The commit of a checkout. An installed package has none: a repository around it is somebody else's."""
    if Path(_git(code, "rev-parse", "--show-toplevel")).resolve() != code.resolve():
        return {"commit": "", "dirty": False}
    return {"commit": _git(code, "rev-parse", "HEAD"), "dirty": bool(_git(code, "status", "--porcelain"))}


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "not installed"


def _git(folder: Path, *arguments: str) -> str:
    try:
        done = subprocess.run(
            ["git", "-C", str(folder), *arguments],  # noqa: S607 (git is found on PATH)
            capture_output=True,
            text=True,
            timeout=10,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):  # a checkout on a slow file system
        return ""
    return done.stdout.strip()
