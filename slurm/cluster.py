"""The cluster file: where ranks run and what each may use. It never changes results."""

from __future__ import annotations

import os
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, model_validator

# The value of an sbatch directive. No blanks, quotes or control characters, so that it cannot change the script.
Word = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9._:%/@,=+&|*\[\]-]+$", max_length=200)]

# One line: a line feed would start another line of the job script.
Line = Annotated[str, StringConstraints(pattern=r"^[^\x00-\x1f\x7f]*$", max_length=1000)]

Variable = Annotated[str, StringConstraints(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$", max_length=100)]


class _Values(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class SiteSettings(_Values):
    """Where jobs run and what is set up there. At the top of the file they hold for all stages."""

    partition: Word | None = Field(None, description="Slurm partition to submit to. null: the site's default.")
    account: Word | None = Field(
        None, description="Slurm account that the time is charged to. null: your default account."
    )
    qos: Word | None = Field(None, description="Slurm quality of service. null: the site's default.")
    constraint: Word | None = Field(
        None,
        description="Features that nodes must have, as sbatch's --constraint takes them, e.g. a100. null: any node.",
    )
    exclude: Word | None = Field(
        None,
        description="Nodes that must not be used, as sbatch's --exclude takes them, e.g. node[017-018]. null: none.",
    )
    setup: tuple[Line, ...] = Field(
        (),
        description=(
            "Shell lines that run in the job before python, e.g. module load cuda/12.6. Each is a complete command; "
            "one that fails ends the job."
        ),
    )
    environment: dict[Variable, Line] = Field(
        {},
        description=(
            "Variables exported to the ranks, beside the allow-list that jobs inherit from your shell (PATH, "
            "HOME, LANG and the like)."
        ),
    )


class Resources(SiteSettings):
    """What one rank may use. With GPUs, each rank has one."""

    gpus: int = Field(
        0,
        ge=0,
        le=1,
        description=(
            "GPUs of one rank. 0: the CPU, also where there are GPUs. 1: one GPU for each rank; a rank that does not "
            "get one ends with an error."
        ),
    )
    cpus: int | None = Field(
        None,
        ge=1,
        description=(
            "CPU cores of one rank, which are also its compute threads. null: all cores of the node, shared "
            "by its ranks."
        ),
    )
    memory_gb: int | None = Field(None, ge=1, description="Memory of one rank, in GB. null: the site's default.")
    minutes: int = Field(
        240,
        ge=1,
        description=(
            "Time limit of a job in minutes. A job that reaches it saves its work and is queued again. Short "
            "limits start sooner on busy sites."
        ),
    )


class ArrayResources(Resources):
    """For stages whose units are independent: each rank processes its share of the units one by one."""

    ranks: int | None = Field(
        None,
        ge=1,
        le=1_000_000,
        description=(
            "Ranks that share the stage's units. null: one per core of this machine, at most 8. More ranks "
            "finish sooner and cost the same GPU hours."
        ),
    )
    parallel: int | None = Field(None, ge=1, description="Ranks that run at the same time, at most. null: all.")
    ranks_per_task: int = Field(
        1,
        ge=1,
        le=64,
        description=(
            "Ranks in one task of the job array, all on one node, 1 to 64. For sites that give out whole nodes."
        ),
    )
    canary_from: int | None = Field(
        32,
        ge=2,
        description=(
            "From this number of ranks on, one unit is finished first, by a job of its own; the other ranks "
            "start only if it succeeds. null: all ranks start at once."
        ),
    )
    cpus: int | None = Field(
        1,
        ge=1,
        description=(
            "CPU cores of one rank, which are also its compute threads. null: all cores of the node, shared "
            "by its ranks."
        ),
    )

    def world(self) -> int:
        """How many ranks there are."""
        return self.ranks or min(cores(), 8)


class TrainResources(Resources):
    """For stages that are one distributed job of nodes x ranks_per_node ranks."""

    nodes: int = Field(1, ge=1, description="Nodes of the distributed job.")
    ranks_per_node: int = Field(1, ge=1, description="Ranks on each node; one per GPU where there are GPUs.")
    minutes: int = Field(
        1440,
        ge=1,
        description=(
            "Time limit of the job in minutes; the default is a day. A training that reaches it saves its "
            "state and is queued again."
        ),
    )

    def world(self) -> int:
        """How many ranks there are."""
        return self.nodes * self.ranks_per_node


class Cluster(SiteSettings):
    """One site. A stage's settings come from its own section, then `array` or `train`, then the top of the file."""

    executor: Literal["local", "slurm"] = Field(
        "local", description="local: ranks are processes on this machine; slurm: ranks are jobs."
    )
    array: ArrayResources = Field(
        ArrayResources(),
        description=(
            "What ranks of stages with independent units may use: shard, embed, identities, generate, "
            "evaluate, audit and the like."
        ),
    )
    train: TrainResources = Field(
        TrainResources(),
        description="What the distributed trainings may use: train-embedder, train-diffusion, train-recognition.",
    )
    stages: dict[str, dict[str, Any]] = Field(
        {},
        description=(
            "Fields of `array` or `train` that differ for a stage, by the stage's name, e.g. {shard: {gpus: 0}}."
        ),
    )
    stop_signal_seconds: int = Field(
        180,
        ge=60,
        description=(
            "Seconds before the time limit at which ranks are asked to save and stop. It must be longer than "
            "saving two checkpoints takes, and shorter than half of `minutes`."
        ),
    )

    @model_validator(mode="after")
    def _check_minutes(self) -> Cluster:
        """Refuse jobs that are asked to stop before half of their time: they start over again without progress."""
        if self.executor != "slurm":
            return self
        limits: dict[str, Any] = {"array.minutes": self.array.minutes, "train.minutes": self.train.minutes}
        limits |= {f"stages.{name}.minutes": fields.get("minutes") for name, fields in self.stages.items()}
        least = 2 * self.stop_signal_seconds // 60 + 1
        for field, minutes in limits.items():
            if isinstance(minutes, int) and minutes < least:
                raise ValueError(
                    f"{field}: got {minutes} with stop_signal_seconds: {self.stop_signal_seconds}; allowed: at least "
                    f"{least}, so that ranks work for more than half of their time; raise it or lower the other"
                )
        return self

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
