"""A copy of the code in the run folder, named by its hash: a queued job runs the code it was submitted with."""

from __future__ import annotations

import hashlib
import os
import shutil
from pathlib import Path

from slurm.disk import disk_errors, move
from slurm.errors import DiskError
from slurm.files import sync_folder
from slurm.partial_files import partial_path

PACKAGES = ("cemiface", "jobs", "shards", "slurm")

# Of code, templates, prompt grammars, and the attribute nets with their cards (8 MB).
SUFFIXES = {".py", ".j2", ".css", ".js", ".yaml", ".json", ".onnx", ".tflite"}


def code_files(root: Path) -> list[Path]:
    """The source files of our packages, relative to `root`, in byte order."""
    found = (path.relative_to(root) for package in PACKAGES for path in (root / package).rglob("*"))
    return sorted((path for path in found if path.suffix in SUFFIXES), key=lambda path: os.fsencode(path))


def code_digest(root: Path) -> str:
    """The first 12 hex digits of a sha256 over the names and contents of `code_files`."""
    whole = hashlib.sha256()
    for path in code_files(root):
        whole.update(f"{path.as_posix()}\0{hashlib.sha256((root / path).read_bytes()).hexdigest()}\n".encode())
    return whole.hexdigest()[:12]


def snapshot(root: Path, *, folder: Path) -> Path:
    """Copy the code below `root` to `folder`/<digest>, which appears whole; returns that path."""
    final = folder / code_digest(root)
    if final.is_dir():
        return final
    part = partial_path(final)
    try:
        for path in code_files(root):
            with disk_errors(part / path):
                (part / path).parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(root / path, part / path)
        try:
            move(part, final)
        except DiskError:
            if not final.is_dir():  # else another launcher made the same snapshot first
                raise
        sync_folder(folder)
    finally:
        shutil.rmtree(part, ignore_errors=True)
    return final
