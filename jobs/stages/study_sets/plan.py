"""Study-sets: nets of one recipe trained on real faces, on synthetic ones, and on both, over several seeds.

A set is rated by the accuracy gap to the net trained on real faces. Gaps are taken between nets of the same seed, so
they have a standard deviation. Subsets (by size or requested value) and augmentations are compared in the same way.
"""

from __future__ import annotations

from collections.abc import Mapping

from pydantic import Field

from cemiface.recognition.config import AugmentConfig
from jobs.frame.products import REAL
from jobs.frame.run import Run
from jobs.frame.stage import Stage
from jobs.frame.stage_config import StageConfig, as_before
from jobs.stages.shard.counts import face_counts
from jobs.stages.shared.known_early import images_known, refuse_large
from jobs.stages.shared.sets import Sets, imported, makers_of
from jobs.stages.shared.study import Study, StudyUnit, units
from jobs.stages.shared.verification import benchmark_needs
from shards.tars.records import OLD_KEY

NAME = "study-sets"


class ComparedSet(StageConfig):
    """What a net is trained on: sets, or a part of them."""

    sets: Sets = Field(
        min_length=1,
        description="What the net is trained on: real, synthetic, or names of imported sets; several are joined.",
    )
    images: int | None = Field(
        None, ge=1, description="Number of images to train on, drawn from the run's seed. null: all."
    )
    asked: dict[str, tuple[float | str, ...]] = Field(
        {},
        description=(
            "Only generated images whose request had one of these values, by key, e.g. {m: [0.5, 0.7]}. "
            "Empty: any image."
        ),
        json_schema_extra=as_before({}),
    )
    m: tuple[float, ...] = Field(
        (), description="The same as `asked` for the key m alone, as older configs have it. Empty: any m."
    )

    augment: AugmentConfig | None = Field(
        None, description="Augmentation of this net's training. null: that of the study."
    )

    @property
    def wanted(self) -> dict[str, tuple[float | str, ...]]:
        """The allowed values by key, of both fields."""
        return {**self.asked, **({OLD_KEY: self.m} if self.m else {})}


class StudySets(Study):
    """Which sets are compared, by nets of one recipe."""

    compare: dict[str, ComparedSet] = Field(
        min_length=2,
        description=(
            "What to compare, each under a name of your own; the gap of each is measured to the first. Each "
            "costs `seeds` trainings."
        ),
    )


def plan(run: Run) -> list[StudyUnit]:
    """One unit per compared set and seed."""
    return units(run, name=NAME, seeds=run.section(StudySets).seeds, groups=list(run.section(StudySets).compare))


def check_faces(run: Run, counts: Mapping[str, int]) -> None:
    """Refuse parts that are larger than their sets, and batches that are larger than these.

    Raises:
        ConfigError: one is.
    """
    config = run.section(StudySets)
    for name, compared in config.compare.items():
        there, of = images_known(run, compared.sets, counts=counts), " and ".join(compared.sets)
        if compared.images is not None:
            refuse_large(f"{NAME}.compare.{name}.images", compared.images, images=there, of=of)
        refuse_large(f"{NAME}.batch", config.batch, images=compared.images or there, of=f"compare.{name}")


def kinds(run: Run) -> list[str]:
    """The sets that nets are trained on."""
    return sorted({kind for compared in run.section(StudySets).compare.values() for kind in compared.sets})


def needs(run: Run) -> tuple[str, ...]:
    """The stages that make the sets and the benchmarks."""
    return tuple(dict.fromkeys([*makers_of(run, kinds(run)), *benchmark_needs(run)]))


STAGE = Stage(
    unit=StudyUnit,
    name=NAME,
    title="study: nets trained on real faces, on synthetic ones, on both, or on parts of them",
    config=StudySets,
    needs=needs,
    files=lambda run: imported(run, kinds=kinds(run)),
    check_launch=lambda run: check_faces(run, face_counts(run) if REAL in kinds(run) else {}),
    check_faces=check_faces,
    plan=plan,
    work="jobs.stages.study_sets.work",
)
