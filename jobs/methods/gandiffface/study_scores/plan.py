"""Study-scores: the score distributions of several sets under a net that took no part, as the paper judges its sets.

The paper compares the mated and non-mated scores of its set with those of real sets and of the GAN portraits alone.
"""

from __future__ import annotations

from dataclasses import dataclass

from pydantic import Field

from cemiface.errors import ModelError
from cemiface.measures.attribute_choice import choose_nets
from jobs.frame.errors import ConfigError
from jobs.frame.experiment_config import EmbedderConfig
from jobs.frame.products import REAL, SYNTHETIC
from jobs.frame.run import Run
from jobs.frame.stage import Stage
from jobs.frame.stage_config import EmbeddingBatch, StageConfig, as_before
from jobs.frame.unit import Unit
from jobs.methods.gandiffface.attributes.plan import cards
from jobs.methods.gandiffface.candidates.plan import face_size
from jobs.methods.gandiffface.identities.plan import MEASURED
from jobs.methods.gandiffface.personalize.plan import base_needs
from jobs.methods.gandiffface.personalize.plan import files as base_files
from jobs.methods.gandiffface.portraits.plan import NAME as PORTRAITS
from jobs.stages.shard.plan import ShardFaces
from jobs.stages.shared.embedder import embedder_files, embedder_needs
from jobs.stages.shared.given_nets import given_net
from jobs.stages.shared.sets import Sets, imported, makers_of
from slurm.files import sha256_of

NAME = "study-scores"
UNTUNED = "untuned"  # a set that this stage makes: pictures by the base before it has learned anybody
MADE = (PORTRAITS, UNTUNED)  # sets that only this method has


class StudyScores(StageConfig):
    """Which sets are compared, and how."""

    sets: Sets = Field(
        (REAL, PORTRAITS, SYNTHETIC),
        min_length=1,
        description=(
            "Sets to compare: real, portraits (of the generator alone), synthetic, untuned (pictures by the base that "
            "has not learned the identities; the difference is what personalization gives), run:NAME (the set of "
            "another run, for example with other settings), or names of imported sets."
        ),
    )
    untuned_images: int = Field(
        800,
        ge=8,
        description=(
            "Pictures of the set untuned, at most: four of each identity, of identities drawn by the seed, each by the "
            "prompt and from the noise of a picture of the set. They cost as much as other pictures and are never "
            "published."
        ),
        json_schema_extra=as_before(800),
    )
    judge: EmbedderConfig = Field(
        EmbedderConfig(),
        description=(
            "Recognition net that scores the sets. Without weights it is E_id, which chose the identities, so that the "
            "scores are biased."
        ),
    )
    images: int = Field(
        50_000, ge=10, description="Images of each set, at most, as whole identities drawn by the seed."
    )
    scores: int = Field(200_000, ge=10, description="Scores of each kind, at most, drawn by the seed.")
    rounds: int = Field(200, ge=20, description="Resamples of the identities for the 95 % intervals.")
    cells: tuple[str, ...] = Field(
        ("gender",), description="Attributes by whose labels the scores are also given: gender, age."
    )
    batch: EmbeddingBatch = 256


@dataclass(frozen=True, kw_only=True)
class ScoresUnit(Unit):
    """One set to score."""

    set: str


def plan(run: Run) -> list[ScoresUnit]:
    """One unit per set.

    Raises:
        ConfigError: a set is named twice.
    """
    sets = run.section(StudyScores).sets
    if len(set(sets)) < len(sets):
        raise ConfigError(f"{NAME}.sets: got {', '.join(sets)}; allowed: each set once")
    return [ScoresUnit(set=kind) for kind in sets]


def needs(run: Run) -> tuple[str, ...]:
    sets = run.section(StudyScores).sets
    base = (*makers_of(run, [SYNTHETIC]), *base_needs(run)) if UNTUNED in sets else ()
    return tuple(dict.fromkeys([*makers_of(run, sets), *base, PORTRAITS, *embedder_needs(run)]))


def files(run: Run) -> dict[str, str]:
    """Hashes of the judge, E_id, the imported sets, and the base if pictures are made with it."""
    config = run.section(StudyScores)
    found = embedder_files(run) | imported(run, kinds=[kind for kind in config.sets if kind not in MADE])
    if UNTUNED in config.sets:
        found |= base_files(run)
    if config.judge.weights:
        field = f"{NAME}.judge.weights"
        found[field] = sha256_of(run.given_file(field, config.judge.weights, give="the weights"))
    return found


def check_launch(run: Run) -> None:
    """Refuse a judge that cannot be loaded, and cells of what is not measured at the size of the faces.

    Raises:
        ConfigError: an attribute that has no labels.
        ModelError: one that no net measures; or the judge's weights are no recognition net's.
    """
    given_net(run, f"{NAME}.judge", run.section(StudyScores).judge)
    size = min(face_size(run), run.section(ShardFaces).image_size)
    for name in run.section(StudyScores).cells:
        if name not in MEASURED:
            raise ConfigError(f"{NAME}.cells: got {name!r}; allowed: {', '.join(MEASURED)}")
        try:
            choose_nets(cards(run), size=size, wanted=[MEASURED[name]])
        except ModelError as error:
            raise ModelError(f"{NAME}.cells: {error}") from None


STAGE = Stage(
    unit=ScoresUnit,
    name=NAME,
    title="study: mated and non-mated scores of several sets, with intervals, by cell",
    config=StudyScores,
    needs=needs,
    files=files,
    check_launch=check_launch,
    plan=plan,
    work="jobs.methods.gandiffface.study_scores.work",
)
