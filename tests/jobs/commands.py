"""Run the `cemiface` command as users do, in copies of the tiny run, and read the results."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

PROJECT = Path(__file__).parent.parent.parent
SECONDS = 300.0  # for a launch to reach some point; much less on a quiet machine
REWRITTEN = {"run.json", "config.yaml", "cluster.yaml", "provenance.json", ".launch.lock"}  # by every launch


@dataclass(frozen=True, kw_only=True)
class Project:
    """A user's folder: faces, a config, a cluster file, and `runs/tiny` as an earlier launch left it."""

    root: Path

    @staticmethod
    def copy_of(run: Any, target: Path) -> Project:
        """A copy, free to be changed, of the folder around a finished run."""
        shutil.copytree(run.config.parent.parent, target)
        return Project(root=target)

    @property
    def runs(self) -> Path:
        return self.root / "runs" / "tiny"

    def arguments(self, command: str, *more: str, cluster: str | None = None) -> list[str]:
        """The command line; `cluster` is the text of another cluster file than the run was made with."""
        site = self.root / "configs" / "one_core.yaml"
        if cluster is not None:
            site = self.root / "configs" / "other.yaml"
            site.write_text(cluster)
        config = str(self.root / "configs" / "tiny.yaml")
        return [sys.executable, "-m", "jobs", command, config, "--cluster", str(site), *more]

    def run(self, command: str, *more: str, cluster: str | None = None, **environment: str) -> Any:
        """Run a command to its end; output and errors are text, lines are not folded."""
        return subprocess.run(
            self.arguments(command, *more, cluster=cluster),
            cwd=PROJECT,
            capture_output=True,
            text=True,
            env=_environment(environment),
            check=False,
            timeout=1800,
        )

    def start(self, command: str, *more: str, cluster: str | None = None, **environment: str) -> subprocess.Popen[str]:
        """Start a command in a process group of its own, as a shell does."""
        return subprocess.Popen(
            self.arguments(command, *more, cluster=cluster),
            cwd=PROJECT,
            stderr=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            text=True,
            env=_environment(environment),
            start_new_session=True,
        )

    def summary(self, stage: str) -> dict[str, Any]:
        value: dict[str, Any] = json.loads((self.runs / stage / "summary.json").read_text())
        return value

    def files(self, pattern: str = "**/*") -> dict[str, tuple[int, str]]:
        """Time of change and sha256 of the run's files, without those that every launch writes again."""
        paths = (path for path in self.runs.glob(pattern) if path.is_file() and path.name not in REWRITTEN)
        return {str(path.relative_to(self.runs)): (path.stat().st_mtime_ns, sha256(path)) for path in paths}

    def hashes(self, pattern: str) -> dict[str, str]:
        return {name: content for name, (_, content) in self.files(pattern).items()}

    def processes(self) -> list[int]:
        """All living processes that were started for this run."""
        found = []
        for folder in Path("/proc").glob("[0-9]*"):
            try:
                command = (folder / "cmdline").read_bytes()  # empty for zombies
            except OSError:
                continue
            if str(self.root).encode() in command:
                found.append(int(folder.name))
        return found

    def heartbeats(self, stage: str) -> list[dict[str, Any]]:
        """The last heartbeats of the ranks. A new launch may remove those of an earlier one at any time."""
        found = []
        for path in sorted((self.runs / stage / "beats").glob("*.json")):
            with suppress(FileNotFoundError):
                found.append(json.loads(path.read_text()))
        return found

    def trained(self, stage: str) -> int:
        """Images in the last line of the training's metrics."""
        path = self.runs / stage / "metrics.jsonl"
        lines = path.read_text().splitlines() if path.exists() else []
        return max((json.loads(line)["images"] for line in lines), default=0)

    def undo(self, stage: str) -> None:
        """Remove what the ranks of a stage made, but not its plan."""
        folder = self.runs / stage
        for name in ("done", "beats", "checkpoints", "logs"):
            shutil.rmtree(folder / name, ignore_errors=True)
        for name in [output["name"] for output in self.summary(stage)["outputs"]]:
            (folder / name).unlink()
        (folder / "summary.json").unlink()
        (folder / "metrics.jsonl").unlink(missing_ok=True)

    def forget(self, *stages: str) -> None:
        """Remove the stages, as if they had never been launched."""
        for stage in stages:
            shutil.rmtree(self.runs / stage)


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def flip_a_bit(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def wait_until(condition: Callable[[], object], *, what: str, seconds: float = SECONDS) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"not within {seconds} s: {what}"
        time.sleep(0.02)


def kill_group(process: subprocess.Popen[str], number: signal.Signals) -> None:
    """Signal the command and everything it started, as a terminal does on Ctrl-C."""
    os.killpg(process.pid, number)


def _environment(more: dict[str, str]) -> dict[str, str]:
    return {**os.environ, "OMP_NUM_THREADS": "1", "COLUMNS": "250", **more}
