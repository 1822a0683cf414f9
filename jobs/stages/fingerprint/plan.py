"""Fingerprint: embed every real face with the audit's net and hash its pixels, for the audit.

The user can give a net other than E_id for the audit (`fingerprint.judge.weights`), because E_id guided the generator
and is biased towards its images.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from pydantic import Field

from jobs.frame.experiment_config import EmbedderConfig
from jobs.frame.products import ALSO, BENCHMARK, EMBEDDER, INQUIRY
from jobs.frame.run import Run
from jobs.frame.stage import Stage
from jobs.frame.stage_config import EmbeddingBatch, StageConfig, as_before
from jobs.frame.unit import Plan, Unit
from jobs.stages.audit.plan import AuditFaces
from jobs.stages.convert_benchmarks.plan import NAME as CONVERTED
from jobs.stages.convert_benchmarks.plan import STAGE as CONVERT_STAGE
from jobs.stages.fingerprint.also import AlsoSet, also_blocks, fingerprint_files, refuse_other_net
from jobs.stages.shard.plan import STAGE as SHARD_STAGE
from jobs.stages.shared.embedder import embedder_files, embedder_needs, embedder_path
from jobs.stages.shared.given_nets import embedding_width, given_net
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
    also: tuple[AlsoSet, ...] = Field(
        (),
        description=(
            "Other real sets that the audit compares with, above all those that given nets were trained on. "
            "Images cost as much as those of `shard`; fingerprints of another run cost nothing."
        ),
        json_schema_extra=as_before(()),
    )
    batch: EmbeddingBatch = 256


@dataclass(frozen=True, kw_only=True)
class FingerprintUnit(Unit):
    """A tar of real faces, a converted benchmark, real faces of the method, or a block of another set.

    Attributes:
        stage, faces: a tar of a stage of the method.
        also, block: number of the set in `fingerprint.also`, and of its block.
        sha256: of the block's fingerprint file or list.
        images: of the block; None for a fingerprint file.
        pictures: whether small pictures are stored, for an audit that searches for altered copies.
    """

    tar: str | None = None
    benchmark: str | None = None
    stage: str | None = None
    faces: str | None = None
    also: int | None = None
    block: int | None = None
    sha256: str | None = None
    images: int | None = None
    pictures: bool | None = None

    @property
    def file(self) -> str:
        """The fingerprint file."""
        if self.tar is not None:
            return self.tar.replace(".tar", ".h5")
        if self.benchmark is not None:
            return f"{BENCHMARK}-{self.benchmark}.h5"
        if self.stage is not None:
            return f"{INQUIRY}-{self.stage}-{Path(str(self.faces)).stem}.h5"
        return f"{ALSO}-{self.also:02d}-{self.block:05d}.h5"

    @property
    def list_name(self) -> str:
        """The list of a block's images."""
        return f"lists/{ALSO}-{self.also:02d}-{self.block:05d}.tsv"


def plan(run: Run) -> Plan[FingerprintUnit]:
    """One unit per tar of real faces, per benchmark, and per block of other sets."""
    benchmarks = run.ledger.units(CONVERT_STAGE) if run.includes(CONVERTED) else []
    audit = run.find(AuditFaces)
    pictures = True if audit and audit.copies == "thorough" else None  # None: as older runs have it
    blocks: dict[FingerprintUnit, bytes | None] = {}
    for found in also_blocks(run, run.section(FingerprintFaces).also):
        number = sum(unit.also == found.number for unit in blocks)
        unit = FingerprintUnit(
            also=found.number, block=number, sha256=found.sha256, images=found.images, pictures=pictures
        )
        blocks[unit] = found.listed
    units = [
        *(FingerprintUnit(tar=unit.tar, pictures=pictures) for unit in run.ledger.units(SHARD_STAGE)),
        *(FingerprintUnit(benchmark=unit.benchmark, pictures=pictures) for unit in benchmarks),
        *(FingerprintUnit(stage=stage, faces=tar, pictures=pictures) for stage, tar in run.method.real_faces(run)),
        *blocks,
    ]
    return Plan(units=units, files={unit.list_name: data for unit, data in blocks.items() if data is not None})


def needs(run: Run) -> tuple[str, ...]:
    own = dict.fromkeys(stage for stage, _ in run.method.real_faces(run))
    return ("shard", *embedder_needs(run), *((CONVERTED,) if run.includes(CONVERTED) else ()), *own)


def expected_images(run: Run) -> int:
    """Of the tars of `shard`, and of other sets that are given as images."""
    own = sum(unit.images for unit in run.ledger.units(SHARD_STAGE))
    return own + sum(unit.images or 0 for unit in run.ledger.units(STAGE))


def audit_net_path(run: Run) -> Path:
    """The weights file of the audit's net.

    Raises:
        ConfigError: the config names a file that is not there.
    """
    weights = run.section(FingerprintFaces).judge.weights
    if weights is None:
        return embedder_path(run)
    return run.given_file("fingerprint.judge.weights", weights, give="a recognition net's weights")


def check_launch(run: Run) -> None:
    """Refuse a judge that cannot be loaded, and fingerprints that are not by it.

    Raises:
        ModelError: the weights are no recognition net's.
        DataError: fingerprints by another net, as far as the net is known: one that the run has yet to train, by the
            width of its embeddings.
    """
    config = run.section(FingerprintFaces)
    judge = given_net(run, "fingerprint.judge", config.judge)
    width = embedding_width(run) if config.judge.weights is None else judge.embedding if judge else None
    trained = config.judge.weights is None and embedder_needs(run)
    known = not trained or run.ledger.why_not_summarized(run.stages[EMBEDDER]) is None
    embedder = sha256_of(audit_net_path(run))[:16] if known else None
    for entry in config.also:
        for file in fingerprint_files(run.path(entry.faces)):
            refuse_other_net(file, embedder=embedder, width=width)


def audit_net_files(run: Run) -> dict[str, str]:
    """The audit's net, where it comes from outside the run: its hash by the field that names it."""
    if run.section(FingerprintFaces).judge.weights is None:
        return embedder_files(run)
    return {"fingerprint.judge.weights": sha256_of(audit_net_path(run))}


STAGE: Stage[FingerprintUnit] = Stage(
    unit=FingerprintUnit,
    name="fingerprint",
    title="hashes and embeddings of every real face, for the audit",
    config=FingerprintFaces,
    needs=needs,
    files=audit_net_files,
    plan=plan,
    check_launch=check_launch,
    work="jobs.stages.fingerprint.work",
    expected_images=expected_images,
)
