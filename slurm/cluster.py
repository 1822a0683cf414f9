"""The cluster file: where ranks run and what each may use. It never changes results."""

from __future__ import annotations

import os
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

# The value of an sbatch directive. No blanks, quotes or control characters, so that it cannot change the script.
Word = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9._:%/@,=+&|*\[\]-]+$", max_length=200)]

# One line: a line feed would start another line of the job script.
Line = Annotated[str, StringConstraints(pattern=r"^[^\x00-\x1f\x7f]*$", max_length=1000)]

Variable = Annotated[str, StringConstraints(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$", max_length=100)]


class _Values(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class SiteSettings(_Values):
    """Where jobs run and what is set up there. At the top of the file they hold for all stages."""

    partition: Word | None = None
    account: Word | None = None
    qos: Word | None = None
    constraint: Word | None = None
    exclude: Word | None = None  # nodes that are known to be bad
    setup: tuple[Line, ...] = ()  # shell lines of the site, run before python (module load ...)
    environment: dict[Variable, Line] = {}  # exported to the ranks, beside the allow-list of `slurm.environment`


class Resources(SiteSettings):
    """What one rank may use. With GPUs, each rank has one."""

    gpus: int = Field(0, ge=0, le=1)
    cpus: int | None = Field(None, ge=1)  # also the rank's compute threads; None: all cores, shared by the node's ranks
    memory_gb: int | None = Field(None, ge=1)
    minutes: int = Field(240, ge=1)


class ArrayResources(Resources):
    """For stages whose units are independent: each rank processes its share of the units one by one."""

    ranks: int | None = Field(None, ge=1, le=1_000_000)  # None: one per core, at most 8
    parallel: int | None = Field(None, ge=1)  # ranks at once; None: all
    ranks_per_task: int = Field(1, ge=1, le=64)  # ranks of one array task, on one node: sites that give whole nodes
    canary_from: int | None = Field(32, ge=2)  # so many ranks start only after one unit went well; None: at once
    cpus: int | None = Field(1, ge=1)

    def world(self) -> int:
        """How many ranks there are."""
        return self.ranks or min(cores(), 8)


class TrainResources(Resources):
    """For stages that are one distributed job of nodes x ranks_per_node ranks."""

    nodes: int = Field(1, ge=1)
    ranks_per_node: int = Field(1, ge=1)
    minutes: int = Field(1440, ge=1)

    def world(self) -> int:
        """How many ranks there are."""
        return self.nodes * self.ranks_per_node


class Cluster(SiteSettings):
    """One site. A stage's settings come from its own section, then `array` or `train`, then the top of the file."""

    executor: Literal["local", "slurm"] = "local"
    array: ArrayResources = ArrayResources()
    train: TrainResources = TrainResources()
    stages: dict[str, dict[str, Any]] = {}  # by stage: fields of `array` or `train` that differ there
    stop_signal_seconds: int = Field(180, ge=60)  # lead before the time limit; must exceed two checkpoint saves

    def of_array(self, stage: str) -> ArrayResources:
        """The resources of a stage with independent units."""
        return ArrayResources.model_validate(self.requested(stage, self.array))

    def of_train(self, stage: str) -> TrainResources:
        """The resources of a distributed stage."""
        return TrainResources.model_validate(self.requested(stage, self.train))

    def requested(self, stage: str, section: Resources) -> dict[str, Any]:
        """The fields of a stage's resources that the file sets; the most specific section wins."""
        everywhere = {name: getattr(self, name) for name in SiteSettings.model_fields if name in self.model_fields_set}
        return {**everywhere, **section.model_dump(exclude_unset=True), **self.stages.get(stage, {})}

    def threads(self, resources: Resources) -> int:
        """Compute threads of one rank."""
        node_ranks = resources.ranks_per_node if isinstance(resources, TrainResources) else 1
        return resources.cpus or max(1, cores() // node_ranks)


def cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0))
