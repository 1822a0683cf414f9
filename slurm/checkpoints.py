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
from typing import Any

from slurm.errors import RunError
from slurm.files import digest, part_path, publish, publish_json, read_json, sha256_of, sync_folder
from slurm.run_folder import StageFolder

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
        part = part_path(final)
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

    def newest(self, *, at_most: int | None = None) -> Checkpoint | None:
        """The newest checkpoint of this training whose hashes verify; damaged ones are set aside with a warning.

        So are those after more than `at_most` images: a training that was made shorter goes on from an earlier one.

        Raises:
            RunError: there are checkpoints of this training, and none is whole. Starting afresh would hide the loss.
        """
        for stray in self.folder.glob(".step-*"):
            shutil.rmtree(stray, ignore_errors=True)
        lost = [path.name for path in self.folder.glob(f"damaged-{self.key[:8]}-*")]
        for folder in reversed(self._steps()):
            complete = read_json(folder / COMPLETE)
            other = isinstance(complete, dict) and complete.get("key") != self.key
            if other or (at_most is not None and _images(folder) > at_most):
                self._set_aside(folder, "superseded")
                continue
            problem = _damage(folder, complete)
            if problem is None:
                return Checkpoint(images=_images(folder), folder=folder)
            lost.append(f"{folder.name}: {problem}")
            log.warning("checkpoint %s is damaged (%s) and set aside", folder.name, problem)
            self._set_aside(folder, f"damaged-{self.key[:8]}")
        if lost:
            raise RunError(
                f"{self.folder}: no whole checkpoint is left ({'; '.join(lost)}); "
                "remove the damaged-* folders there to train from the beginning"
            )
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


def newest_checkpoint(stage: StageFolder) -> str:
    """The name of the newest checkpoint of a stage, whole or not, "" where there is none."""
    return max((path.name for path in stage.checkpoints.glob("step-*")), default="")


def _images(folder: Path) -> int:
    return int(folder.name.removeprefix("step-"))


def _damage(folder: Path, complete: Any) -> str | None:
    """What is wrong with a checkpoint, given the content of its COMPLETE file; None if nothing is."""
    try:
        if complete["images"] != _images(folder):
            return f"{COMPLETE} is of another step"
        for name, expected in complete["sha256"].items():
            if sha256_of(folder / name) != expected:
                return f"{name}: sha256 differs"
    except (KeyError, TypeError, AttributeError):
        return f"no whole {COMPLETE} file"
    except OSError as error:
        return f"{Path(str(error.filename)).name}: {error.strerror}"
    return None
