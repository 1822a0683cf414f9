"""The cluster file: where ranks run and what each may use. It never changes what comes out, only when."""

from __future__ import annotations

import os
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

# What may stand in an sbatch directive. Blanks, quotes and control characters cannot be smuggled into a script.
Word = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9._:%/@,=+&|*-]+$", max_length=200)]
MAX_ARRAY_SIZE = 1001  # Slurm's default; indices stay below it


class _Values(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class ArrayResources(_Values):
    """For stages whose units are independent: each rank takes its share of the units, one after the other."""

    ranks: int | None = Field(None, ge=1, lt=MAX_ARRAY_SIZE)  # None: one per core, at most 8
    parallel: int | None = Field(None, ge=1)  # ranks at once; None: all
    gpus: int = Field(0, ge=0, le=1)  # per rank
    cpus: int = Field(1, ge=1)  # per rank; also the rank's compute threads
    memory_gb: int | None = Field(None, ge=1)  # per rank
    minutes: int = Field(240, ge=1)


class TrainResources(_Values):
    """For stages that are one distributed job: nodes x ranks_per_node ranks, one per GPU where there are GPUs."""

    nodes: int = Field(1, ge=1)
    ranks_per_node: int = Field(1, ge=1)
    gpus_per_node: int = Field(0, ge=0)
    cpus: int | None = Field(None, ge=1)  # per rank; None: all cores
    memory_gb: int | None = Field(None, ge=1)  # per node
    minutes: int = Field(1440, ge=1)

    @property
    def world_size(self) -> int:
        return self.nodes * self.ranks_per_node


class Cluster(_Values):
    """One site."""

    executor: Literal["local", "slurm"] = "local"
    array: ArrayResources = ArrayResources()
    train: TrainResources = TrainResources()
    partition: Word | None = None
    account: Word | None = None
    qos: Word | None = None
    constraint: Word | None = None
    stop_signal_seconds: int = Field(180, ge=60)  # lead before the time limit; must exceed two checkpoint saves
    setup: tuple[str, ...] = ()  # shell lines of the site, run before python (module load ...)

    def array_ranks(self) -> int:
        return self.array.ranks or min(cores(), 8)

    def train_cpus(self) -> int:
        return self.train.cpus or max(1, cores() // self.train.ranks_per_node)


def cores() -> int:
    return len(os.sched_getaffinity(0))
