"""Checkpoints: a folder that appears whole by one rename, with hashes; the newest that verifies is resumed."""

from __future__ import annotations

import logging
import os
import re
import secrets
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from slurm.errors import RunError
from slurm.files import digest, publish, publish_json, read_json, sha256_of, sync_folder

COMPLETE = "COMPLETE"
STEP = re.compile(r"step-(\d{12})")
log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """A verified checkpoint after `images` training images."""

    images: int
    folder: Path

    def read(self, name: str) -> bytes:
        return (self.folder / name).read_bytes()


class Checkpoints:
    """The checkpoints of one training, all made under one `key` (what the training's state depends on)."""

    def __init__(self, folder: Path, *, key: object, keep: int = 2) -> None:
        if keep < 2:
            raise RunError(f"keep: got {keep}, allowed 2 or more (the last one may be cut off while it is written)")
        self.folder, self.key, self.keep = folder, digest(key), keep

    def save(self, images: int, *, files: Mapping[str, bytes]) -> None:
        """Commit `files` as the checkpoint after `images` images, then drop all but the newest `keep`."""
        final = self.folder / f"step-{images:012d}"
        if final.exists():
            return  # the same step of the same training: bit-equal by construction
        part = self.folder / f".{final.name}-{os.getpid()}-{secrets.token_hex(4)}"
        part.mkdir(parents=True)
        try:
            hashes = {name: publish(part / name, data).sha256 for name, data in files.items()}
            publish_json(part / COMPLETE, {"key": self.key, "images": images, "sha256": hashes})
            os.rename(part, final)
            sync_folder(self.folder)
        finally:
            shutil.rmtree(part, ignore_errors=True)
        for old in self._steps()[: -self.keep]:
            shutil.rmtree(old, ignore_errors=True)

    def newest(self) -> Checkpoint | None:
        """The newest checkpoint of this training whose hashes verify; damaged ones are set aside with a warning.

        Raises:
            RunError: there are checkpoints of this training, and none is whole. Starting afresh would hide the loss.
        """
        for stray in self.folder.glob(".step-*"):
            shutil.rmtree(stray, ignore_errors=True)
        damaged = []
        for folder in reversed(self._steps()):
            complete = read_json(folder / COMPLETE)
            if complete is not None and complete.get("key") != self.key:
                self._set_aside(folder, "superseded")
                continue
            problem = "no COMPLETE file" if complete is None else _damage(folder, complete)
            if problem is None:
                assert complete is not None
                return Checkpoint(images=complete["images"], folder=folder)
            damaged.append(f"{folder.name}: {problem}")
            log.warning("checkpoint %s is damaged (%s) and set aside", folder.name, problem)
            self._set_aside(folder, "damaged")
        if damaged:
            raise RunError(
                f"{self.folder}: no whole checkpoint is left ({'; '.join(damaged)}); "
                "remove the damaged-* folders there to train from the beginning"
            )
        if any(self.folder.glob("damaged-*")):
            raise RunError(f"{self.folder}: only damaged checkpoints; remove damaged-* to train from the beginning")
        return None

    def at(self, images: int) -> Checkpoint:
        """The checkpoint after `images` images, which somebody has verified already."""
        return Checkpoint(images=images, folder=self.folder / f"step-{images:012d}")

    def _steps(self) -> list[Path]:
        if not self.folder.is_dir():
            return []
        return sorted(path for path in self.folder.iterdir() if STEP.fullmatch(path.name))

    def _set_aside(self, folder: Path, prefix: str) -> None:
        os.rename(folder, self.folder / f"{prefix}-{folder.name}-{secrets.token_hex(2)}")


def _damage(folder: Path, complete: dict[str, dict[str, str]]) -> str | None:
    for name, expected in complete["sha256"].items():
        try:
            found = sha256_of(folder / name)
        except OSError as error:
            return f"{name}: {error.strerror}"
        if found != expected:
            return f"{name}: sha256 differs"
    return None
