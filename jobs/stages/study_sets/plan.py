"""Study-sets: nets of one recipe trained on real faces, on synthetic ones, and on both, over several seeds.

A set is rated by the accuracy gap to the net trained on real faces. Gaps are taken between nets of the same seed, so
they have a standard deviation. Subsets (by size or requested value) and augmentations are compared in the same way.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence

from pydantic import Field, model_validator

from cemiface.recognition.config import AugmentConfig
from jobs.frame.errors import ConfigError
from jobs.frame.products import REAL, SYNTHETIC
from jobs.frame.run import Run
from jobs.frame.stage import Stage
from jobs.frame.stage_config import StageConfig, as_before
from jobs.stages.shard.counts import face_counts
from jobs.stages.shared.known_early import images_known, refuse_large
from jobs.stages.shared.other_runs import PREFIX, other_set
from jobs.stages.shared.sets import Sets, imported, makers_of
from jobs.stages.shared.studies.study import Study, StudyUnit, units
from jobs.stages.shared.verification import benchmark_needs
from shards.tars.records import OLD_KEY, Groups

NAME = "study-sets"

Asked = Mapping[str, Collection[float | str]]  # values that images of a set may be asked for, by key


class ComparedSet(StageConfig):
    """What a net is trained on: sets, or a part of them."""

    sets: Sets = Field(
        min_length=1,
        description="What the net is trained on: real, synthetic, run:NAME (the set of another run), or names of "
        "imported sets; several are joined.",
    )
    images: int | None = Field(
        None, ge=1, description="Number of images to train on, drawn from the run's seed. null: all."
    )
    images_of_each: int | None = Field(
        None,
        ge=1,
        description=(
            "Number of images of each of the sets, in place of `images`: whole identities drawn from the run's seed, "
            "of the last one a part. So two sets have half each of a volume. null: see `images`."
        ),
        json_schema_extra=as_before(None),
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

    @model_validator(mode="after")
    def _check_images(self) -> ComparedSet:
        if self.images is not None and self.images_of_each is not None:
            raise ValueError(f"images_of_each: got {self.images_of_each} beside images; allowed: one of the two")
        return self

    @property
    def wanted(self) -> dict[str, tuple[float | str, ...]]:
        """The allowed values by key, of both fields."""
        return {**self.asked, **({OLD_KEY: self.m} if self.m else {})}


class StudySets(Study):
    """Which sets are compared, by nets of one recipe."""

    measured_images: int = Field(
        0,
        ge=0,
        description=(
            "Images of each compared set whose gender, age and yaw are measured, for the report. 0: none. Costs about "
            "0.02 CPU seconds each."
        ),
        json_schema_extra=as_before(0),
    )

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
        for kind in compared.sets if compared.images_of_each is not None else ():
            field, known = f"{NAME}.compare.{name}.images_of_each", images_known(run, [kind], counts=counts)
            refuse_large(field, compared.images_of_each or 0, images=known, of=kind)
        if compared.images is not None:
            refuse_large(f"{NAME}.compare.{name}.images", compared.images, images=there, of=of)
        refuse_large(f"{NAME}.batch", config.batch, images=_used(compared) or there, of=f"compare.{name}")


def check_asked(run: Run) -> None:
    """Refuse a value that no image of the compared sets was asked for, as far as their methods tell.

    Raises:
        ConfigError: there is one.
    """
    for name, compared in run.section(StudySets).compare.items():
        known = [_asked_values(run, kind) for kind in compared.sets]
        for values in [[one] for one in known] if compared.images_of_each is not None else [known]:
            told = [one for one in values if one is not None]
            if len(told) == len(values):  # else the records of an imported set tell
                _refuse_unasked(name, compared, told)


def _refuse_unasked(name: str, compared: ComparedSet, sets: Sequence[Asked]) -> None:
    for key, values in compared.wanted.items():
        there = {value for one in sets for value in one.get(key, ())}
        absent = next((value for value in values if value not in there), None)
        if absent is not None:
            raise unasked(name, key, absent, there=there)


def unasked(name: str, key: str, value: float | str, *, there: Iterable[float | str]) -> ConfigError:
    """The refusal of a value that no image was asked for; `there`: the values of the set."""
    shown = ", ".join(Groups({key: value} for value in there).labels.get(key, ["none"]))
    return ConfigError(f"{NAME}.compare.{name}.asked.{key}: got {value}; allowed: those of the set, {shown}")


def _asked_values(run: Run, kind: str) -> Asked | None:
    """What images of a set may be asked for, by key; None if only its records tell."""
    if kind == REAL:
        return {}
    if kind == SYNTHETIC:
        return run.method.asked_values(run) if run.includes(run.method.generate.name) else None
    if not kind.startswith(PREFIX):
        return None
    other = other_set(run, kind).run
    return other.method.asked_values(other)


def _check_launch(run: Run) -> None:
    check_asked(run)
    check_faces(run, face_counts(run) if REAL in kinds(run) else {})


def _used(compared: ComparedSet) -> int | None:
    """How many images the config says to use; None for all."""
    each = compared.images_of_each
    return compared.images if each is None else each * len(compared.sets)


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
    check_launch=_check_launch,
    check_faces=check_faces,
    plan=plan,
    work="jobs.stages.study_sets.work",
)
