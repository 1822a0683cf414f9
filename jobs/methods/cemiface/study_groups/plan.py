"""Study-groups: train nets on groups of real faces by similarity to the identity center, and compare them.

The images of each identity are ranked by similarity to its center and cut into equal groups (section 3.1, tables 1 and
9 of the paper). One net per group and seed, all by one recipe, on the same number of images of the same identities.
"""

from __future__ import annotations

from collections.abc import Mapping

from pydantic import Field

from jobs.frame.errors import ConfigError
from jobs.frame.products import EMBED, REAL, SHARD
from jobs.frame.run import Run
from jobs.frame.stage import Stage
from jobs.stages.shard.counts import face_counts, images_of_kind
from jobs.stages.shared.embedder import embedder_needs
from jobs.stages.shared.known_early import refuse_large
from jobs.stages.shared.studies.study import Study, StudyUnit, units
from jobs.stages.shared.verification import benchmark_needs

NAME = "study-groups"


class StudyGroups(Study):
    """How real faces are grouped, and the recipe of the nets."""

    groups: int = Field(
        5,
        ge=2,
        description=(
            "Equal groups that each identity's images are cut into by similarity to its center. The default "
            "is the paper's (section 3.1). Each costs `seeds` trainings."
        ),
    )
    min_images: int = Field(
        10,
        ge=2,
        description=(
            "Images that an identity must have to take part, at least `groups`; identities with fewer are left out."
        ),
    )

    @property
    def group_names(self) -> list[str]:
        """From the most similar images to the least."""
        return [f"group {number + 1}" for number in range(self.groups)]


def plan(run: Run) -> list[StudyUnit]:
    """One unit per group and seed.

    Raises:
        ConfigError: the config has no benchmark to verify the nets on, or `min_images` is below the number of groups.
    """
    config = run.section(StudyGroups)
    planned = units(run, name=NAME, groups=config.group_names, seeds=config.seeds)
    if config.min_images < config.groups:
        raise ConfigError(
            f"{NAME}.min_images: got {config.min_images} for {config.groups} groups; allowed: at least as many"
        )
    return planned


def check_faces(run: Run, counts: Mapping[str, int]) -> None:
    """Refuse a batch that is larger than a group can be.

    Raises:
        ConfigError: it is.
    """
    config = run.section(StudyGroups)
    each = images_of_kind(counts, REAL) // config.groups
    refuse_large(f"{NAME}.batch", config.batch, images=each, of=f"one of {config.groups} groups, at most")


def needs(run: Run) -> tuple[str, ...]:
    return tuple(dict.fromkeys([SHARD, EMBED, *benchmark_needs(run), *embedder_needs(run)]))


STAGE = Stage(
    name=NAME,
    title="study: real faces in groups by similarity to their center, one net per group",
    config=StudyGroups,
    unit=StudyUnit,
    needs=needs,
    plan=plan,
    check_launch=lambda run: check_faces(run, face_counts(run)),
    check_faces=check_faces,
    work="jobs.methods.cemiface.study_groups.work",
)
