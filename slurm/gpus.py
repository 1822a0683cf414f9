"""The GPUs that processes of this machine may use, by the names that CUDA_VISIBLE_DEVICES takes. Needs no torch."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Mapping
from functools import cache

VISIBLE = "CUDA_VISIBLE_DEVICES"

SECONDS_FOR_THE_DRIVER = 60.0  # which loads on the first call

# "GPU 0: NVIDIA A100 (UUID: GPU-...)", and below it "  MIG 3g.20gb Device 0: (UUID: MIG-...)" for an instance of it.
LISTED = re.compile(r"^\s*(?P<kind>GPU|MIG) .*\(UUID: (?P<uuid>[A-Za-z0-9/-]+)\)\s*$", re.M)

NAMED = re.compile(r"[0-9]+|(?:GPU|MIG)-[A-Za-z0-9/-]+")  # as CUDA reads the variable; other words hide what follows


def visible_gpus() -> list[str]:
    """The names of the GPUs that this process may use; those of CUDA_VISIBLE_DEVICES if it is set, else all."""
    given = os.environ.get(VISIBLE)
    if given is None:
        return list(_all_gpus())
    names: list[str] = []
    for name in given.split(","):
        if not NAMED.fullmatch(name.strip()) or name.strip() in names:
            break
        names.append(name.strip())
    return names


def only(gpu: str | None) -> Mapping[str, str]:
    """The variables of a process that uses this GPU alone, or none."""
    return {VISIBLE: gpu or ""}


@cache
def _all_gpus() -> tuple[str, ...]:
    """The driver's list. A GPU that is divided into MIG instances stands for these: as a whole it cannot be used."""
    tool = shutil.which("nvidia-smi")
    if tool is None:
        return ()
    try:
        done = subprocess.run(
            [tool, "--list-gpus"], capture_output=True, text=True, timeout=SECONDS_FOR_THE_DRIVER, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return ()
    names: list[str] = []
    whole = False  # whether the last name is of a whole GPU
    for line in LISTED.finditer(done.stdout):
        if line["kind"] == "MIG" and whole:
            names.pop()
        names.append(line["uuid"])
        whole = line["kind"] == "GPU"
    return tuple(names)
