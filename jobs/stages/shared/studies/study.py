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
    """The recipe that all nets of a study share, their seeds and their verification."""

    seeds: int = Field(
        3,
        ge=1,
        description=(
            "Nets per group, with different initial weights and order of images. Each costs one training per "
            "group; three show the spread."
        ),
    )
    verification: Verification = Field(Verification(), description="How the study's nets are verified.")


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
