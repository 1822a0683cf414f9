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
from jobs.frame.stage_config import EmbeddingBatch, StageConfig
from jobs.frame.unit import Unit
from jobs.methods.gandiffface.attributes.plan import cards
from jobs.methods.gandiffface.candidates.plan import face_size
from jobs.methods.gandiffface.identities.plan import MEASURED
from jobs.methods.gandiffface.portraits.plan import NAME as PORTRAITS
from jobs.stages.shard.plan import ShardFaces
from jobs.stages.shared.embedder import embedder_files, embedder_needs
from jobs.stages.shared.given_nets import given_net
from jobs.stages.shared.sets import Sets, imported, makers_of
from slurm.files import sha256_of

NAME = "study-scores"


class StudyScores(StageConfig):
    """Which sets are compared, and how."""

    sets: Sets = Field(
        (REAL, PORTRAITS, SYNTHETIC),
        min_length=1,
        description=(
            "Sets to compare: real, portraits (of the generator alone), synthetic, run:NAME (the set of another run, "
            "for example with other settings), or names of imported sets."
        ),
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
    return tuple(dict.fromkeys([*makers_of(run, sets), PORTRAITS, *embedder_needs(run)]))


def files(run: Run) -> dict[str, str]:
    """Hashes of the judge, E_id and the imported sets."""
    config = run.section(StudyScores)
    found = embedder_files(run) | imported(run, kinds=[kind for kind in config.sets if kind != PORTRAITS])
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
