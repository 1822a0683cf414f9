"""What recognition nets are verified on: converted benchmarks, and pairs of held-out people."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from pydantic import Field

from cemiface.errors import ModelError
from jobs.frame.products import HELD_OUT
from jobs.frame.run import Run
from jobs.frame.stage_config import EmbeddingBatch, StageConfig
from jobs.stages.convert_benchmarks.plan import NAME as CONVERT
from jobs.stages.convert_benchmarks.plan import ConvertBenchmarks
from jobs.stages.shard.plan import ShardFaces


class Verification(StageConfig):
    """How nets are verified; part of every stage that does it."""

    pairs: int = Field(
        3000,
        ge=10,
        description=(
            "Pairs of held-out identities, of each kind, at most; as many mated as non-mated. The default is "
            "LFW's number."
        ),
    )
    folds: int = Field(
        10,
        ge=2,
        description=(
            "Consecutive folds, never shuffled: the threshold is chosen on all but one and accuracy measured "
            "on that one. The default is LFW's; lists that name their folds keep those."
        ),
    )
    flip_test: bool = Field(
        True,
        description=(
            "Whether the embedding of an image is added to that of its mirror image, as the released log "
            "does. It doubles the time of embedding."
        ),
    )
    batch: EmbeddingBatch = 256


def benchmark_names(run: Run) -> list[str]:
    """All benchmarks of the run, the held-out people first."""
    sharded, converted = run.find(ShardFaces), run.find(ConvertBenchmarks)
    held_out = sharded is not None and sharded.held_out_identities
    return [*([HELD_OUT] if held_out else []), *(converted.sources if converted is not None else [])]


def benchmark_needs(run: Run) -> tuple[str, ...]:
    """The stages that make them."""
    return (*(["shard"] if HELD_OUT in benchmark_names(run) else []), *([CONVERT] if run.includes(CONVERT) else []))


def check_folds(same: Sequence[bool], *, folds: int, benchmark: str) -> None:
    """Refuse folds that accuracy cannot be measured on; `same` says of each pair whether it is mated.

    Raises:
        ModelError: there are fewer pairs than folds, or a fold has pairs of one kind alone.
    """
    if len(same) < folds:
        raise ModelError(f"benchmark {benchmark}: got {len(same)} pairs for {folds} folds; lower folds")
    for number, fold in enumerate(np.array_split(np.array(same, bool), folds), start=1):
        if fold.all() or not fold.any():  # measured at a threshold that suits the other kind
            kind = "mated" if fold.all() else "non-mated"
            raise ModelError(
                f"benchmark {benchmark}: fold {number} of {folds} has only {kind} pairs; allowed: both kinds in each; "
                "lower folds, or convert it again"
            )


def verifications(run: Run) -> Iterator[Verification]:
    """How the stages of the run verify nets."""
    for stage in run.chain:
        section = run.config.section(stage.name)
        own = section if isinstance(section, Verification) else getattr(section, "verification", None)
        if isinstance(own, Verification):
            yield own
