"""A run: the config of an experiment and its run folder."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from jobs.frame.errors import ConfigError
from jobs.frame.ledger import Ledger
from jobs.frame.products import EMBEDDER
from jobs.frame.stage import Stage
from jobs.frame.stage_config import StageConfig
from jobs.frame.unit import Unit
from slurm.cluster import Cluster
from slurm.run_folder import RunFolder, StageFolder

if TYPE_CHECKING:
    from jobs.frame.experiment_config import ExperimentBase
    from jobs.frame.method import Method

ConfigT = TypeVar("ConfigT", bound=StageConfig)


class Run:
    """The config, the cluster, the method and the folders of a run. Every function of a stage gets it."""

    def __init__(self, *, config: ExperimentBase, method: Method, cluster: Cluster, root: Path) -> None:
        self.config = config
        self.method = method
        self.stages: Mapping[str, Stage[Unit]] = method.chain
        self.cluster = cluster
        self.root = root  # project root: relative paths of the config start here
        self.folder = RunFolder(self.path(config.runs) / config.name)
        self.ledger = Ledger(self)

    @property
    def seed(self) -> int:
        """Seed of everything random in the run."""
        return self.config.seed

    @cached_property
    def chain(self) -> tuple[Stage[Unit], ...]:
        """The stages of this run, in order."""
        return tuple(stage for name, stage in self.stages.items() if self.includes(name))

    def includes(self, stage: str) -> bool:
        """Whether the stage is part of this run: the config has its section, and gives no weights in its place."""
        replaced = stage == EMBEDDER and self.config.embedder.weights is not None
        return stage in self.stages and self.config.section(stage) is not None and not replaced

    def section(self, kind: type[ConfigT]) -> ConfigT:
        """The section of the config that has this class.

        Raises:
            ConfigError: the config has no such section; names it.
        """
        found = self.find(kind)
        if found is None:
            name = next((name for name, stage in self.stages.items() if stage.config is kind), kind.__name__)
            raise ConfigError(f"{name}: this run needs a section `{name}:`; add one to the config")
        return found

    def find(self, kind: type[ConfigT]) -> ConfigT | None:
        """As `section`, but None if the config has no such section."""
        for name, stage in self.stages.items():
            if stage.config is kind:
                section = self.config.section(name)
                return section if isinstance(section, kind) else None
        return None

    def path(self, text: str) -> Path:
        """The absolute path of a path in the config."""
        return (self.root / Path(text).expanduser()).absolute()

    def given_file(self, field: str, text: str, *, give: str) -> Path:
        """A file that a field of the config names.

        Raises:
            ConfigError: there is no such file.
        """
        path = self.path(text)
        if not path.is_file():
            raise ConfigError(f"{field}: got {path}, no such file; give {give} or remove it")
        return path

    def stage_folder(self, stage: str) -> StageFolder:
        """The folder of a stage in the run folder."""
        return self.folder.stage(stage)
