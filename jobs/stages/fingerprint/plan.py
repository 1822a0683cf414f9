"""Fingerprint: embed every real face with the audit's net and hash its pixels, for the audit.

The user can give a net other than E_id for the audit (`fingerprint.judge.weights`), because E_id guided the generator
and is biased towards its images.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from pydantic import Field

from jobs.frame.experiment_config import EmbedderConfig
from jobs.frame.run import Run
from jobs.frame.stage import Stage
from jobs.frame.stage_config import EmbeddingBatch, StageConfig
from jobs.frame.unit import Unit
from jobs.stages.convert_benchmarks.plan import NAME as CONVERTED
from jobs.stages.convert_benchmarks.plan import STAGE as CONVERT_STAGE
from jobs.stages.shard.plan import STAGE as SHARD_STAGE
from jobs.stages.shared.embedder import embedder_files, embedder_needs, embedder_path
from slurm.files import sha256_of


class FingerprintFaces(StageConfig):
    """What the audit compares faces with."""

    judge: EmbedderConfig = Field(
        EmbedderConfig(),
        description=(
            "Recognition net that the audit compares faces with. Without weights it is E_id; an independent "
            "net can find leaks that E_id misses."
        ),
    )
    batch: EmbeddingBatch = 256


@dataclass(frozen=True, kw_only=True)
class FingerprintUnit(Unit):
    """A tar of real faces, or a converted benchmark."""

    tar: str | None = None
    benchmark: str | None = None


def plan(run: Run) -> list[FingerprintUnit]:
    """One unit per tar of real faces, and one per benchmark."""
    benchmarks = run.ledger.units(CONVERT_STAGE) if run.includes(CONVERTED) else []
    return [
        *(FingerprintUnit(tar=unit.tar) for unit in run.ledger.units(SHARD_STAGE)),
        *(FingerprintUnit(benchmark=unit.benchmark) for unit in benchmarks),
    ]


def audit_net_path(run: Run) -> Path:
    """The weights file of the audit's net.

    Raises:
        ConfigError: the config names a file that is not there.
    """
    weights = run.section(FingerprintFaces).judge.weights
    if weights is None:
        return embedder_path(run)
    return run.given_file("fingerprint.judge.weights", weights, give="a recognition net's weights")


def audit_net_files(run: Run) -> dict[str, str]:
    """The audit's net, where it comes from outside the run: its hash by the field that names it."""
    if run.section(FingerprintFaces).judge.weights is None:
        return embedder_files(run)
    return {"fingerprint.judge.weights": sha256_of(audit_net_path(run))}


def is_independent(run: Run) -> bool:
    """Whether the audit's net differs from E_id, which guided the generator."""
    return sha256_of(audit_net_path(run)) != sha256_of(embedder_path(run))


STAGE = Stage(
    unit=FingerprintUnit,
    name="fingerprint",
    title="hashes and embeddings of every real face, for the audit",
    config=FingerprintFaces,
    needs=lambda run: ("shard", *embedder_needs(run), *((CONVERTED,) if run.includes(CONVERTED) else ())),
    files=audit_net_files,
    plan=plan,
    work="jobs.stages.fingerprint.work",
    expected_images=lambda run: sum(unit.images for unit in run.ledger.units(SHARD_STAGE)),
)
