"""What all studies share: nets of one recipe trained on several groups of images, over seeds, and verified."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from pydantic import Field

from jobs.frame.errors import ConfigError
from jobs.frame.run import Run
from jobs.frame.unit import Unit
from jobs.stages.shared.verification import Verification, benchmark_names
from jobs.training.recipe import Recipe


class Study(Recipe):
    """The recipe of a study's nets, and how they are verified."""

    seeds: int = Field(3, ge=1)  # nets per group; each seed has its own first weights and order
    verification: Verification = Verification()


@dataclass(frozen=True, kw_only=True)
class StudyUnit(Unit):
    """The net of one group and seed; seeds count from 0."""

    group: str
    seed: int


def units(run: Run, *, name: str, groups: Sequence[str], seeds: int) -> list[StudyUnit]:
    """One unit per group and seed.

    Raises:
        ConfigError: the run has no benchmark to verify the nets on.
    """
    if not benchmark_names(run):
        raise ConfigError(
            f"{name}: has no benchmark; set shard.held_out_identities, or add a section `convert-benchmarks:`"
        )
    return [StudyUnit(group=group, seed=seed) for seed in range(seeds) for group in groups]
