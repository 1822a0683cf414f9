"""Checkpoints: folders that appear whole by one rename, with hashes. The newest one that verifies is resumed."""

from __future__ import annotations

import logging
import re
import secrets
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from slurm.disk import disk_errors, exists, listed, move, tried_again
from slurm.errors import RunError
from slurm.files import digest, publish, publish_json, read_json, sha256_of, sync_folder
from slurm.partial_files import partial_path
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
        """The content of one of its files."""
        path = self.folder / name
        with disk_errors(path, doing="read"):
            return tried_again(path.read_bytes)


class Checkpoints:
    """The checkpoints of one training. `key` is everything that the training's state depends on."""

    def __init__(self, folder: Path, *, key: object, keep: int = 2) -> None:
        if keep < 2:
            raise RunError(f"keep: got {keep}, allowed 2 or more (the last one may be damaged by a crash)")
        self.folder, self.key, self.keep = folder, digest(key), keep

    def save(self, images: int, *, files: Mapping[str, bytes]) -> None:
        """Write `files` as the checkpoint after `images` images, then remove all but the newest `keep`."""
        final = self.folder / f"step-{images:012d}"
        if exists(final):
            return  # of the same step of the same training, so its bytes are equal
        part = partial_path(final)
        with disk_errors(part):
            tried_again(lambda: part.mkdir(parents=True, exist_ok=True))
        try:
            hashes = {name: publish(part / name, data).sha256 for name, data in files.items()}
            publish_json(part / COMPLETE, {"key": self.key, "images": images, "sha256": hashes})
            move(part, final)
            sync_folder(self.folder)
        finally:
            shutil.rmtree(part, ignore_errors=True)
        for old in self._steps()[: -self.keep]:
            shutil.rmtree(old, ignore_errors=True)

    def newest(self, *, at_most: int | None = None) -> Checkpoint | None:
        """The newest checkpoint of this training whose hashes verify. Damaged ones are set aside with a warning.

        Those after more than `at_most` images are set aside as well: a training that was shortened resumes from an
        earlier one.

        Raises:
            RunError: this training has checkpoints and all are damaged. Restarting silently would hide the loss.
            DiskError: one cannot be read, which is not to say that it is damaged.
        """
        for stray in self.folder.glob(".step-*"):
            shutil.rmtree(stray, ignore_errors=True)
        lost = [name for name in listed(self.folder) if name.startswith(f"damaged-{self.key[:8]}-")]
        for folder in reversed(self._steps()):
            complete = read_json(folder / COMPLETE)
            superseded = isinstance(complete, dict) and complete.get("key") != self.key
            if superseded or (at_most is not None and _images(folder) > at_most):
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
        """The checkpoint after `images` images, which the caller knows to be whole."""
        return Checkpoint(images=images, folder=self.folder / f"step-{images:012d}")

    def _steps(self) -> list[Path]:
        return [self.folder / name for name in listed(self.folder) if STEP.fullmatch(name)]

    def _set_aside(self, folder: Path, prefix: str) -> None:
        move(folder, self.folder / f"{prefix}-{folder.name}-{secrets.token_hex(2)}")


def newest_checkpoint(stage: StageFolder) -> str:
    """The name of the newest checkpoint of a stage, whole or not; "" if there is none."""
    return max((name for name in listed(stage.checkpoints) if name.startswith("step-")), default="")


def _images(folder: Path) -> int:
    return int(folder.name.removeprefix("step-"))


def _damage(folder: Path, complete: Any) -> str | None:
    """What is wrong with a checkpoint, given the content of its COMPLETE file; None if it is whole."""
    try:
        if complete["images"] != _images(folder):
            return f"{COMPLETE} belongs to another step"
        for name, expected in complete["sha256"].items():
            if sha256_of(folder / name) != expected:
                return f"{name}: sha256 differs"
    except (KeyError, TypeError, AttributeError):
        return f"{COMPLETE} is missing or damaged"
    except FileNotFoundError as error:
        return f"{Path(str(error.filename)).name}: {error.strerror}"
    return None
