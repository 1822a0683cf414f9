"""Evaluate: verification accuracy of every net on every benchmark, and the score distributions of the sets.

Only the last checkpoint of a training is evaluated, because choosing the best epoch by these benchmarks is selection on
the test set. One published log has an average accuracy of 92.71 % that way and of 92.52 % at its last epoch.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from pydantic import Field, model_validator

from cemiface.errors import ModelError
from cemiface.weights_head import read_head
from jobs.frame.experiment_config import EmbedderConfig
from jobs.frame.products import EVALUATE, REAL, RECOGNITION, SHARD, SYNTHETIC
from jobs.frame.run import Run
from jobs.frame.stage import Stage
from jobs.frame.stage_config import EmbeddingBatch, PathText, StageConfig
from jobs.frame.unit import Unit
from jobs.stages.shared.embedder import embedder_files, embedder_needs
from jobs.stages.shared.given_nets import given_embedder, given_net
from jobs.stages.shared.verification import Verification, benchmark_names, benchmark_needs
from slurm.files import sha256_of


class Scoring(StageConfig):
    """How sets are scored."""

    scores: int = Field(
        200_000,
        ge=10,
        description=(
            "Mated and non-mated scores taken of each set, at most, of each kind; drawn from the seed. It "
            "bounds memory."
        ),
    )
    score_images: int = Field(
        50_000,
        ge=10,
        description=(
            "Images of each set that are scored, at most, as whole identities drawn from the seed. It bounds "
            "time and memory with large sets."
        ),
    )
    judge: EmbedderConfig = Field(
        EmbedderConfig(),
        description=(
            "Recognition net that scores the sets. Without weights it is E_id, which guided the generator, so that "
            "the scores are biased."
        ),
    )
    inception: PathText | None = Field(
        None,
        description="Weights of Inception v3, for its Fréchet distance and for diversity. null: neither is measured.",
    )
    batch: EmbeddingBatch = 256


class EvaluateRecognition(Verification, Scoring):
    """How nets are verified, and how sets are scored."""

    checkpoint: str = Field(
        "last",
        description=(
            "Checkpoint of a training that is verified; only last is allowed. The best epoch by a benchmark "
            "would be chosen on the test set: 92.71 instead of 92.52 in the paper's released log."
        ),
    )

    @model_validator(mode="after")
    def _check_selection(self) -> EvaluateRecognition:
        if self.checkpoint != "last":
            raise ValueError(
                f"checkpoint: got {self.checkpoint}; allowed: last; the best by a benchmark is chosen on the test set"
            )
        return self


def given_weights(run: Run) -> dict[str, Path]:
    """The weights files the section names, by field.

    Raises:
        ConfigError: a file does not exist.
    """
    config = run.section(EvaluateRecognition)
    named = {"judge.weights": config.judge.weights, "inception": config.inception}
    return {
        field: run.given_file(f"evaluate.{field}", value, give="the weights")
        for field, value in named.items()
        if value is not None
    }


def check_launch(run: Run) -> None:
    """Refuse weights that cannot be loaded, as far as the heads of their files say so.

    Raises:
        ConfigError: a file does not exist.
        ModelError: the judge is no recognition net, or Inception's file is not whole.
    """
    given_embedder(run)
    given_net(run, "evaluate.judge", run.section(EvaluateRecognition).judge)
    inception = given_weights(run).get("inception")
    if inception:
        try:
            read_head(inception)
        except ModelError as error:
            raise ModelError(f"evaluate.inception: {error}") from None


def measures_likeness(run: Run, kind: str) -> bool:
    """Whether the evaluation net, not E_id, measures how close generated faces are to their identity's own face."""
    given = run.section(EvaluateRecognition).judge.weights
    return kind == SYNTHETIC and given is not None and run.method.identity_faces(run) is not None


def kinds(run: Run) -> list[str]:
    """The sets that are scored."""
    return [REAL, *([SYNTHETIC] if run.includes(run.method.generate.name) else [])]


@dataclass(frozen=True, kw_only=True)
class EvaluateUnit(Unit):
    """A net (`verify`) and the benchmark that it is verified on (`on`), or a set that is scored (`scores`)."""

    verify: str | None = None
    on: str | None = None
    scores: str | None = None


def models_of(run: Run) -> list[str]:
    """The nets that are verified; the one of train-recognition is named after the synthetic set."""
    return ["untrained", "embedder", *([SYNTHETIC] if run.includes(RECOGNITION) else [])]


def plan(run: Run) -> list[EvaluateUnit]:
    """One unit per net and benchmark, and one per set to score.

    Raises:
        ConfigError: the weights of the evaluation net or of Inception do not exist.
    """
    given_weights(run)
    verifications = [EvaluateUnit(verify=model, on=name) for name in benchmark_names(run) for model in models_of(run)]
    return [*verifications, *(EvaluateUnit(scores=kind) for kind in kinds(run))]


def needs(run: Run) -> tuple[str, ...]:
    """The stages that make the sets, the benchmarks and the nets."""
    trained = (RECOGNITION,) if run.includes(RECOGNITION) else ()
    generated = [run.method.generate.name] if SYNTHETIC in kinds(run) else []
    people = [run.method.identities.name] if generated and measures_likeness(run, SYNTHETIC) else []
    return tuple(dict.fromkeys([SHARD, *people, *generated, *benchmark_needs(run), *embedder_needs(run), *trained]))


def _files(run: Run) -> dict[str, str]:
    return embedder_files(run) | {f"evaluate.{field}": sha256_of(path) for field, path in given_weights(run).items()}


STAGE = Stage(
    unit=EvaluateUnit,
    name=EVALUATE,
    title="verification accuracy, mated and non-mated scores, set metrics",
    config=EvaluateRecognition,
    needs=needs,
    files=_files,
    plan=plan,
    check_launch=check_launch,
    work="jobs.stages.evaluate.work",
)
