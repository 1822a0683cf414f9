"""Embed: E_id of every real training face and of its mirror image, one HDF5 file per tar, joined without copying."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pydantic import Field, model_validator

from jobs.frame.errors import ConfigError
from jobs.frame.products import CLASSIFIER, EMBEDDER
from jobs.frame.run import Run
from jobs.frame.stage import Stage
from jobs.frame.stage_config import EmbeddingBatch, PathText, StageConfig
from jobs.frame.unit import Unit
from jobs.stages.shard.plan import real_units
from jobs.stages.shared.embedder import embedder_files, embedder_needs
from jobs.stages.shared.given_nets import embedding_width
from shards.embeddings.classifier import check_classifier
from slurm.files import sha256_of


class EmbedFaces(StageConfig):
    """How real faces are embedded, and what an identity's center is."""

    batch: EmbeddingBatch = 256
    centers: Literal["mean", "classifier"] = Field(
        "mean",
        description=(
            "What the center of an identity is: the mean direction of its embeddings, or its weight row in a "
            "classifier, as in section 3.1 of the paper."
        ),
    )
    classifier: PathText | None = Field(
        None,
        description=(
            "Safetensors file with `weight` (classes x embedding) and `classes`, for centers: classifier. "
            "null: the classifier that train-embedder trained."
        ),
    )

    @model_validator(mode="after")
    def _check(self) -> EmbedFaces:
        if self.centers == "mean" and self.classifier is not None:
            raise ValueError(f"classifier: got {self.classifier} with centers: mean; allowed: centers: classifier")
        return self


def classifier_path(run: Run) -> Path | None:
    """The classifier whose weight rows are the centers; None where they are means.

    Raises:
        ConfigError: the classifier that came with the user's E_id is not named, or not there.
    """
    config: EmbedFaces = run.section(EmbedFaces)
    if config.centers == "mean":
        return None
    if config.classifier is None and embedder_needs(run):
        return run.stage_folder(EMBEDDER).output(CLASSIFIER)
    path = run.path(config.classifier) if config.classifier else None
    if path is None or not path.is_file():
        raise ConfigError(f"embed.classifier: got {path}, no such file; give the classifier E_id was trained with")
    return path


def files(run: Run) -> dict[str, str]:
    """What the stage reads from outside the run."""
    found, classifier = embedder_files(run), classifier_path(run)
    if classifier and run.section(EmbedFaces).classifier:
        found["embed.classifier"] = sha256_of(classifier)
    return found


def check_launch(run: Run) -> None:
    """Refuse an E_id that cannot be loaded, and a classifier that is not of it.

    Raises:
        ModelError: the weights are no recognition net's.
        DataError: the file is no classifier, or has rows of another width than the embeddings.
    """
    width = embedding_width(run)
    given = run.section(EmbedFaces).classifier and classifier_path(run)
    if given:
        check_classifier(given, width=width)


@dataclass(frozen=True, kw_only=True)
class EmbedUnit(Unit):
    """A tar of real training faces."""

    tar: str


def plan(run: Run) -> list[EmbedUnit]:
    """One unit per tar of real training faces."""
    return [EmbedUnit(tar=unit.tar) for unit in real_units(run)]


STAGE = Stage(
    unit=EmbedUnit,
    name="embed",
    title="E_id of every real face, identity centers, similarity to center",
    config=EmbedFaces,
    needs=lambda run: ("shard", *embedder_needs(run)),
    files=files,
    plan=plan,
    check_launch=check_launch,
    work="jobs.stages.embed.work",
    expected_images=lambda run: sum(unit.images for unit in real_units(run)),
)
