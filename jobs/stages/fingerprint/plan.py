"""Fingerprint: what the audit needs of every real face: an embedding under the audit's net, and hashes of its pixels.

The audit's net is another one than E_id where the user gives one (`fingerprint.judge.weights`), because E_id guided the
generator and favors what it guided.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from pydantic import Field

from jobs.frame.experiment_config import EmbedderConfig
from jobs.frame.run import Run
from jobs.frame.stage import Stage
from jobs.frame.stage_config import StageConfig, operational
from jobs.frame.unit import Unit
from jobs.stages.audit.plan import AuditFaces
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
            "Recognition net that the audit compares faces with. Without weights it is E_id; another net than "
            "the generator's guide finds leaks that E_id does not see."
        ),
    )
    batch: int = Field(
        256,
        ge=1,
        description="Images embedded at once by each rank. More needs more memory and is faster on GPUs.",
        json_schema_extra=operational(),
    )


@dataclass(frozen=True, kw_only=True)
class FingerprintUnit(Unit):
    """A tar of real faces, or a converted benchmark; with small pictures if the audit searches for altered copies."""

    tar: str | None = None
    benchmark: str | None = None
    pictures: bool | None = None


def plan(run: Run) -> list[FingerprintUnit]:
    """One unit per tar of real faces, and one per benchmark."""
    benchmarks = run.ledger.units(CONVERT_STAGE) if run.asks_for(CONVERTED) else []
    audit = run.find(AuditFaces)
    pictures = True if audit and audit.copies == "thorough" else None  # None: as older runs have it
    return [
        *(FingerprintUnit(tar=unit.tar, pictures=pictures) for unit in run.ledger.units(SHARD_STAGE)),
        *(FingerprintUnit(benchmark=unit.benchmark, pictures=pictures) for unit in benchmarks),
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
    """Whether the audit's net is another one than E_id, which guided the generator."""
    return sha256_of(audit_net_path(run)) != sha256_of(embedder_path(run))


STAGE = Stage(
    unit=FingerprintUnit,
    name="fingerprint",
    title="hashes and embeddings of every real face, for the audit",
    config=FingerprintFaces,
    needs=lambda run: ("shard", *embedder_needs(run), *((CONVERTED,) if run.asks_for(CONVERTED) else ())),
    files=audit_net_files,
    plan=plan,
    work="jobs.stages.fingerprint.work",
    expected_images=lambda run: sum(unit.images for unit in run.ledger.units(SHARD_STAGE)),
)
