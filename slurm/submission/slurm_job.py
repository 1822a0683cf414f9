"""The Slurm jobs of a stage, and which rank each of their tasks runs."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import Field

from slurm.cluster import Cluster
from slurm.submission.queue import Task

Kind = Literal["canary", "array", "distributed"]


@dataclass(frozen=True, kw_only=True)
class SlurmJob:
    """One job of a stage: an array, a distributed job, or the canary, which runs one unit ahead of a large array."""

    kind: Kind
    first_rank: int
    ranks: int
    ranks_per_task: Annotated[int, Field(ge=1)]  # checked when a record is read
    job: str = ""  # its id, once submitted

    @property
    def tasks(self) -> int:
        """How many tasks Slurm starts."""
        return 1 if self.kind == "distributed" else -(-self.ranks // self.ranks_per_task)

    def tasks_by_rank(self, known: Mapping[tuple[str, int | None], Task]) -> dict[int, Task]:
        """The task that runs each rank, for ranks whose task Slurm knows."""
        found = {}
        for number in range(self.ranks):
            # A distributed job has no index, nor has an array of one element: it is submitted as a plain job.
            task = known.get((self.job, number // self.ranks_per_task)) or known.get((self.job, None))
            if task is not None:
                found[self.first_rank + number] = task
        return found


def slurm_jobs(cluster: Cluster, *, stage: str, distributed: bool, units: int, largest_array: int) -> list[SlurmJob]:
    """The jobs of a stage: one distributed job, or arrays below Slurm's size limit. Each rank is in exactly one array.

    `largest_array` is Slurm's MaxArraySize: indices stay below it.
    """
    if distributed:
        world = cluster.of_train(stage).world()
        return [SlurmJob(kind="distributed", first_rank=0, ranks=world, ranks_per_task=world)]
    array = cluster.of_array(stage)
    ranks = max(1, min(array.world(), units))
    per_task = min(array.ranks_per_task, ranks)
    at_most = max(1, largest_array - 1) * per_task  # ranks of one array
    jobs = [
        SlurmJob(kind="array", first_rank=first, ranks=min(at_most, ranks - first), ranks_per_task=per_task)
        for first in range(0, ranks, at_most)
    ]
    if array.canary_from is not None and ranks >= array.canary_from:
        jobs.insert(0, SlurmJob(kind="canary", first_rank=0, ranks=1, ranks_per_task=1))
    return jobs


def jobs_again(
    without: Collection[int], *, alive: Collection[int], ranks: int, ranks_per_task: int, largest_array: int
) -> list[SlurmJob]:
    """Arrays for the ranks `without` a task, in whole tasks; ranks between them that are done may be among them.

    No task is made for `alive` ranks.
    """
    blocks = sorted({rank // ranks_per_task for rank in without})
    taken = {rank // ranks_per_task for rank in alive}
    at_most = max(1, largest_array - 1)
    jobs: list[SlurmJob] = []
    start = 0
    for number, block in enumerate(blocks):
        following = blocks[number + 1] if number + 1 < len(blocks) else None
        if following is None or following - blocks[start] >= at_most or taken & set(range(block, following)):
            first, last = blocks[start] * ranks_per_task, min(ranks, (block + 1) * ranks_per_task)
            jobs.append(SlurmJob(kind="array", first_rank=first, ranks=last - first, ranks_per_task=ranks_per_task))
            start = number + 1
    return jobs
