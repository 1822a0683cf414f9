"""Audit: compare every synthetic image and identity with all real faces, by pixels and embeddings.

The units find the nearest real faces of the synthetic tars and of a control group: held-out people or, if there are
none, the training people, each compared with the others. The last rank sets thresholds and writes the verdict.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import Field

from jobs.frame.errors import ConfigError
from jobs.frame.products import FINGERPRINT, HELD_OUT, REAL
from jobs.frame.run import Run
from jobs.frame.stage import Stage
from jobs.frame.stage_config import EmbeddingBatch, StageConfig, as_before, final, operational
from jobs.frame.unit import Unit
from jobs.frame.verdicts import recorded_vectors, reference_files
from jobs.stages.shard.counts import face_counts
from jobs.stages.shard.plan import real_units
from jobs.stages.shared.embedder import embedder_needs
from shards.embeddings.nearest import pairs_per_second
from shards.privacy.copies.cost import copies_seconds
from shards.privacy.thresholds import MIN_FALSE_ALARMS

HASH_WIDTH = 2 * 256  # of the pixel hashes, mirrored and not, which are compared like embeddings

USUAL_WIDTH = 512  # of embeddings, before there are any

CONTROL_IMAGES = 20_000  # of training people; about 100 of them exceed the threshold at the default false_alarms


PLANTED = 30  # copies of each alteration: if all 90 plain ones are found, the recall is at least 0.96 (at 95 %)


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
    accept_unchecked: tuple[str, ...] = Field(
        (),
        description=(
            "Names of data sets that nets of this run were trained on, that the audit does not compare the set with, "
            "and that do not keep `publish` from publishing it. The card names them first."
        ),
        json_schema_extra=operational(),
    )
    copies: Literal["quick", "thorough"] = Field(
        "quick",
        description=(
            "How copies of real faces are searched for. `quick`: by pixels, hashes and embeddings; this finds "
            "copies that are saved again or mirrored. `thorough`: also by small gray pictures; this finds cropped, "
            "shifted, rotated, covered, blurred and inverted ones too, and is meant for sets that are released. "
            "`cemiface plan` says what it costs."
        ),
        json_schema_extra=as_before("quick"),
    )
    min_recall: float = Field(
        0.9,
        ge=0.5,  # at 0 there would be no control
        le=1,
        description=(
            "Fraction of planted copies, 0.5 to 1, that the audit must find; fewer fail the verdict. In every audit "
            "altered copies of real faces are searched for like synthetic ones. The default leaves room for the few "
            "that even a good net misses; a net that cannot tell people apart finds far fewer."
        ),
        json_schema_extra=final() | as_before(0.9),
    )
    batch: EmbeddingBatch = 256


@dataclass(frozen=True, kw_only=True)
class AuditUnit(Unit):
    """A tar of the synthetic set, or one of the control group, or the planted copies: how many of each alteration."""

    tar: str | None = None
    control: str | None = None
    planted: int | None = None


def plan(run: Run) -> list[AuditUnit]:
    """One unit per synthetic tar, per tar of the control group, and for planted copies, each against all real faces."""
    return [
        *(AuditUnit(tar=unit.tar) for unit in run.ledger.units(run.method.generate)),
        *(AuditUnit(control=tar) for tar in control_tars(run)),
        AuditUnit(planted=PLANTED),
    ]


def check_control(run: Run, counts: Mapping[str, int]) -> None:
    """Refuse a control group that is too small for `false_alarms`; the thresholds would depend on single faces.

    Raises:
        ConfigError: it is.
    """
    rate = run.section(AuditFaces).false_alarms
    images = sum(counts.get(tar, 0) for tar in control_tars(run))
    if int(rate * images) >= MIN_FALSE_ALARMS:
        return
    lowest = MIN_FALSE_ALARMS / max(1, images)
    remedy = f"at least {lowest:.1e}, or a larger control group" if lowest < 1 else "a larger control group"
    raise ConfigError(
        f"audit.false_alarms: got {rate} with a control group of {images} faces; allowed: {remedy} "
        "(shard.held_out_identities; without, it is made of training faces)"
    )


def control_tars(run: Run) -> list[str]:
    """The tars of held-out people, or some of the training people's, evenly out of all."""
    trained = real_units(run)
    images = sum(unit.images for unit in trained)
    group = real_units(run, kind=HELD_OUT) or trained[:: max(1, images // CONTROL_IMAGES)]
    return [unit.tar for unit in group]


def forecast(run: Run) -> str:
    """How long the comparisons will take, at the speed that a short trial measures on this machine."""
    images = run.method.generate.expected_images(run) or 0
    files = reference_files(run, kinds=(REAL,))
    real = run.stages[FINGERPRINT].expected_images(run) or 0
    width = recorded_vectors(run, files[0].name).features.shape[1] if files else USUAL_WIDTH
    seconds = images * real / pairs_per_second(width + HASH_WIDTH)
    thorough = run.section(AuditFaces).copies == "thorough"
    seconds += copies_seconds(images, references=real) if thorough else 0.0
    kind = "thorough comparisons" if thorough else "comparisons"
    ranks = max(1, min(run.cluster.of_array("audit").world(), len(run.ledger.units(STAGE))))
    shared = f", {_spent(seconds / ranks)} for each of {ranks}" if ranks > 1 else ""
    return f"audit: {images:,} x {real:,} {kind}, about {_spent(seconds)} of one rank on this machine{shared}"


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
    check_launch=lambda run: check_control(run, face_counts(run)),
    check_faces=check_control,
    forecast=forecast,
    expected_images=lambda run: run.method.generate.expected_images(run),
)
