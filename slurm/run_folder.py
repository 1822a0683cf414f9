"""The run folder: the only record of a run. This class owns every name in it; all tools read nothing else."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from slurm.errors import RunError


class StageFolder:
    """`runs/<name>/<stage>/`: plan, markers, logs, heartbeats, metrics, checkpoints, summary and the outputs."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.name = root.name
        self.plan = root / "plan.json"
        self.summary = root / "summary.json"
        self.metrics = root / "metrics.jsonl"
        self.done = root / "done"
        self.logs = root / "logs"
        self.submissions = root / "logs" / "submitit"
        self.beats = root / "beats"
        self.checkpoints = root / "checkpoints"
        self.superseded = root / "superseded"
        self.kept = root / "kept"
        self.superseding = root / "beats" / "superseding.lock"
        self.superseded_for = root / "beats" / "superseded-for"
        self.rendezvous = root / "beats" / "rendezvous"
        self.submission = root / "submission.json"

    def marker(self, unit: int) -> Path:
        return self.done / f"{unit:05d}.json"

    def log(self, rank: int) -> Path:
        return self.logs / f"{rank:05d}.log"

    def beat(self, rank: int) -> Path:
        return self.beats / f"{rank:05d}.json"

    def claim(self, rank: int) -> Path:
        return self.beats / f"{rank:05d}.lock"

    def output(self, name: str) -> Path:
        return self.root / name


class RunFolder:
    """`runs/<name>/`: config, provenance, the launcher's lock, and a folder per stage."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.config = root / "config.yaml"
        self.provenance = root / "provenance.json"
        self.lock = root / ".launch.lock"
        self.cluster = root / "cluster.yaml"
        self.code = root / "code"

    def stage(self, name: str) -> StageFolder:
        return StageFolder(self.root / name)

    def create(self) -> None:
        """Make the folder for its owner only: runs hold private faces.

        Raises:
            RunError: it is a symlink, belongs to another user, or anybody may write to it.
        """
        try:
            self.root.mkdir(mode=0o700, parents=True, exist_ok=True)
            found = os.lstat(self.root)
        except OSError as error:
            raise RunError(f"{self.root}: cannot be made: {error.strerror}; set `runs` to a folder of yours") from error
        if not stat.S_ISDIR(found.st_mode):
            raise RunError(f"{self.root}: is not a plain folder (a symlink?); move it away or choose another name")
        if found.st_uid != os.getuid():
            raise RunError(f"{self.root}: belongs to uid {found.st_uid}, not to you; choose another `runs` or `name`")
        if found.st_mode & 0o077:
            self.root.chmod(0o700)
