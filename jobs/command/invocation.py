"""The command line this process was started with, to tell people what to type next."""

from __future__ import annotations

import os
import shlex
import sys
from dataclasses import dataclass
from pathlib import Path

from jobs.frame.errors import ConfigError
from jobs.frame.run import Run
from jobs.frame.yaml_file import read_yaml


@dataclass(frozen=True, kw_only=True)
class Invocation:
    """The config, the cluster file and the overrides, as they have to be typed."""

    config: Path
    cluster: Path | None = None
    overrides: tuple[str, ...] = ()

    @staticmethod
    def of(run: Run, *, config: Path, cluster: Path | None, overrides: tuple[str, ...]) -> Invocation:
        """As the user typed it. A run that was last launched on Slurm goes on there, also if the file was not told."""
        recorded = run.folder.root / "cluster.yaml"
        try:
            if cluster is None and read_yaml(recorded).get("executor") == "slurm":
                cluster = Path(os.path.relpath(recorded))
        except ConfigError:
            pass  # never launched
        return Invocation(config=config, cluster=cluster, overrides=overrides)

    def command(self, name: str, *words: object, cluster: bool = False) -> str:
        """A command for the same run, fit to be pasted into a shell; `cluster`: with the cluster file."""
        site = ["--cluster", str(self.cluster)] if cluster and self.cluster is not None else []
        return shlex.join([*_program(), name, str(self.config), *map(str, words), *site, *self.overrides])


def _program() -> list[str]:
    called = Path(sys.argv[0])
    return [sys.executable, "-m", "jobs"] if called.name == "__main__.py" else [sys.argv[0]]
