"""What recognition nets are verified on: converted benchmarks, and pairs of held-out people."""

from __future__ import annotations

from pydantic import Field

from jobs.frame.products import HELD_OUT
from jobs.frame.run import Run
from jobs.frame.stage_config import StageConfig, operational
from jobs.stages.convert_benchmarks.plan import NAME as CONVERT
from jobs.stages.convert_benchmarks.plan import ConvertBenchmarks
from jobs.stages.shard.plan import ShardFaces


class Verification(StageConfig):
    """How nets are verified; part of every stage that does it."""

    pairs: int = Field(3000, ge=10)  # of held-out people, of each kind, at most; equally many mated and non-mated
    folds: int = Field(10, ge=2)  # consecutive, never shuffled; lists that name their folds keep those
    flip_test: bool = True  # embedding of the image plus that of its mirror image
    batch: int = Field(256, ge=1, json_schema_extra=operational())


def benchmark_names(run: Run) -> list[str]:
    """All benchmarks of the run, the held-out people first."""
    sharded, converted = run.find(ShardFaces), run.find(ConvertBenchmarks)
    held_out = sharded is not None and sharded.held_out_identities
    return [*([HELD_OUT] if held_out else []), *(converted.sources if converted is not None else [])]


def benchmark_needs(run: Run) -> tuple[str, ...]:
    """The stages that make them."""
    return (*(["shard"] if HELD_OUT in benchmark_names(run) else []), *([CONVERT] if run.asks_for(CONVERT) else []))
