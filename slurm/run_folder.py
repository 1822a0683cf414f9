"""The run folder, the only record of a run. All names in it are defined here, and all tools read nothing else."""

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
        self.submitit_logs = root / "logs" / "submitit"
        self.heartbeats = root / "beats"
        self.checkpoints = root / "checkpoints"
        self.superseded = root / "superseded"
        self.kept = root / "kept"
        self.superseding = root / "beats" / "superseding.lock"
        self.superseded_for = root / "beats" / "superseded-for"
        self.rendezvous = root / "beats" / "rendezvous"
        self.job_record = root / "submission.json"

    def marker(self, unit: int) -> Path:
        """The marker of a finished unit."""
        return self.done / f"{unit:05d}.json"

    def log(self, rank: int) -> Path:
        """The log of a rank."""
        return self.logs / f"{rank:05d}.log"

    def heartbeat(self, rank: int) -> Path:
        """The heartbeat of a rank."""
        return self.heartbeats / f"{rank:05d}.json"

    def rank_lock(self, rank: int) -> Path:
        """The lock that the running attempt of a rank holds."""
        return self.heartbeats / f"{rank:05d}.lock"

    def output(self, name: str) -> Path:
        """A published file."""
        return self.root / name


class RunFolder:
    """`runs/<name>/`: identity, config, provenance, the launcher's lock, and a folder per stage."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.identity = root / "run.json"
        self.config = root / "config.yaml"
        self.provenance = root / "provenance.json"
        self.lock = root / ".launch.lock"
        self.cluster = root / "cluster.yaml"
        self.code = root / "code"

    def stage(self, name: str) -> StageFolder:
        """The folder of one stage."""
        return StageFolder(self.root / name)

    def create(self) -> None:
        """Create the folder with access for its owner only: runs hold private faces.

        Raises:
            RunError: it cannot be created, is not a plain folder, or belongs to another user.
        """
        try:
            self.root.mkdir(mode=0o700, parents=True, exist_ok=True)
            found = os.lstat(self.root)
        except OSError as error:
            raise RunError(
                f"{self.root}: cannot be created: {error.strerror}; set `runs` to a folder you can write to"
            ) from error
        if not stat.S_ISDIR(found.st_mode):
            raise RunError(f"{self.root}: is not a plain folder (a symlink?); move it away or choose another name")
        if found.st_uid != os.getuid():
            raise RunError(f"{self.root}: belongs to uid {found.st_uid}, not to you; choose another `runs` or `name`")
        if found.st_mode & 0o077:
            # The setgid bit stays: on many sites it is what charges new files to the project's quota.
            self.root.chmod(stat.S_IMODE(found.st_mode) & ~0o077 | 0o700)
