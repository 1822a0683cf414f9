"""The command line of this process, from which further commands for the same run are printed."""

from __future__ import annotations

import os
import shlex
import sys
from dataclasses import dataclass
from pathlib import Path

from jobs.frame.config_file.yaml_file import read_yaml
from jobs.frame.errors import ConfigError
from jobs.frame.run import Run


@dataclass(frozen=True, kw_only=True)
class Invocation:
    """The config, the cluster file and the overrides, as the user typed them."""

    config: Path
    cluster: Path | None = None
    overrides: tuple[str, ...] = ()

    @staticmethod
    def of(run: Run, *, config: Path, cluster: Path | None, overrides: tuple[str, ...]) -> Invocation:
        """The invocation. Without a cluster file, that of the last launch is used if it was on Slurm."""
        recorded = run.folder.cluster
        try:
            if cluster is None and read_yaml(recorded).get("executor") == "slurm":
                cluster = Path(os.path.relpath(recorded))
        except ConfigError:
            pass  # never launched
        return Invocation(config=config, cluster=cluster, overrides=overrides)

    def command(self, name: str, *arguments: object, cluster: bool = False) -> str:
        """A command for the same run, quoted for a shell. `cluster`: with the cluster file."""
        site = ["--cluster", str(self.cluster)] if cluster and self.cluster is not None else []
        return shlex.join([*_program(), name, str(self.config), *map(str, arguments), *site, *self.overrides])


def _program() -> list[str]:
    as_module = Path(sys.argv[0]).name == "__main__.py"
    return [sys.executable, "-m", "jobs"] if as_module else [sys.argv[0]]
