"""Audit: compare every synthetic image and identity with the real training faces, by pixels and embeddings.

The units find the nearest real faces of the synthetic tars and of a control group: held-out people or, if there are
none, the training people, each compared with the others. The last rank sets thresholds and writes the verdict.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from pydantic import Field

from jobs.frame.products import HELD_OUT
from jobs.frame.run import Run
from jobs.frame.stage import Stage
from jobs.frame.stage_config import EmbeddingBatch, StageConfig
from jobs.frame.unit import Unit
from jobs.frame.verdicts import reference_files
from jobs.stages.shard.plan import real_units
from jobs.stages.shared.embedder import embedder_needs
from shards.embeddings.nearest import pairs_per_second
from shards.privacy.fingerprints import read_vectors

HASH_WIDTH = 2 * 256  # of the pixel hashes, mirrored and not, which are compared like embeddings

USUAL_WIDTH = 512  # of embeddings, before there are any

CONTROL_IMAGES = 20_000  # of training people; about 100 of them exceed the threshold at the default false_alarms


class AuditFaces(StageConfig):
    """How close to a real face counts as a leak."""

    false_alarms: float = Field(
        0.005,
        gt=0,
        lt=1,
        description=(
            "Fraction of the control group's faces, above 0 and below 1, that the audit may take for leaks; "
            "it sets the thresholds. Lower needs a larger control group."
        ),
    )
    fmr: tuple[Annotated[float, Field(gt=0, lt=1)], ...] = Field(
        (1e-3, 1e-4, 1e-5, 1e-6),
        min_length=1,
        description=(
            "False match rates, of non-mated pairs of real faces, at which the leak rate is reported. The "
            "defaults are the usual ones of face verification."
        ),
    )
    max_dropped_fraction: float = Field(
        0.5,
        ge=0,
        le=1,
        description=(
            "Fraction of the set, 0 to 1, that may be dropped as leaks; more fails the verdict, and the set "
            "cannot be published."
        ),
    )
    batch: EmbeddingBatch = 256


@dataclass(frozen=True, kw_only=True)
class AuditUnit(Unit):
    """A tar of the synthetic set, or one of the control group."""

    tar: str | None = None
    control: str | None = None


def plan(run: Run) -> list[AuditUnit]:
    """One unit per synthetic tar, and per tar of the control group; each is compared with all real training faces."""
    return [
        *(AuditUnit(tar=unit.tar) for unit in run.ledger.units(run.method.generate)),
        *(AuditUnit(control=tar) for tar in control_tars(run)),
    ]


def control_tars(run: Run) -> list[str]:
    """The tars of held-out people, or some of the training people's, evenly out of all."""
    trained = real_units(run)
    images = sum(unit.images for unit in trained)
    group = real_units(run, kind=HELD_OUT) or trained[:: max(1, images // CONTROL_IMAGES)]
    return [unit.tar for unit in group]


def forecast(run: Run) -> str:
    """How long the comparisons will take, at the speed that a short trial measures on this machine."""
    images = run.method.generate.expected_images(run) or 0
    files = reference_files(run)
    real = sum(unit.images for unit in real_units(run))
    width = read_vectors(files[0]).features.shape[1] if files else USUAL_WIDTH
    seconds = images * real / pairs_per_second(width + HASH_WIDTH)
    ranks = max(1, min(run.cluster.of_array("audit").world(), len(run.ledger.units(STAGE))))
    shared = f", {_spent(seconds / ranks)} for each of {ranks}" if ranks > 1 else ""
    return f"audit: {images:,} x {real:,} comparisons, about {_spent(seconds)} of one rank on this machine{shared}"


def _spent(seconds: float) -> str:
    if seconds > 7200:
        return f"{seconds / 3600:.1f} hours"
    return f"{seconds / 60:.0f} minutes" if seconds > 120 else f"{seconds:.0f} s"


STAGE = Stage(
    unit=AuditUnit,
    name="audit",
    title="compare the synthetic faces with the real ones and list those that are too close",
    config=AuditFaces,
    needs=lambda run: ("shard", "fingerprint", run.method.generate.name, *embedder_needs(run)),
    plan=plan,
    work="jobs.stages.audit.work",
    forecast=forecast,
    expected_images=lambda run: run.method.generate.expected_images(run),
)
