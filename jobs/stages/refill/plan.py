"""Refill: replace the images that the audit dropped, and audit the replacements in the same way.

An image that leaks is regenerated with other noise, up to some attempts. An identity that is too close to a real person
by its mean is not refilled: more images of it would be more images of that person. The means that the new images change
are checked by the stage `settle`.
"""

from __future__ import annotations

from dataclasses import dataclass

from pydantic import Field

from jobs.frame.products import AUDIT, FINGERPRINT, REFILL, SYNTHETIC
from jobs.frame.run import Run
from jobs.frame.stage import Stage
from jobs.frame.stage_config import StageConfig
from jobs.frame.unit import SetUnit


class RefillFaces(StageConfig):
    """How often a dropped image is generated again."""

    attempts: int = Field(
        5,
        ge=1,
        description=(
            "Maximum number of attempts to regenerate a dropped image with different noise. An image that leaks in "
            "every attempt is left out. Each attempt costs as much as generating the image."
        ),
    )


@dataclass(frozen=True, kw_only=True)
class RefillUnit(SetUnit):
    """The tar of new images in place of those dropped from the tar `of`."""

    of: str


def plan(run: Run) -> list[RefillUnit]:
    """One unit per synthetic tar; what was dropped of it is known when the unit is worked on."""
    return [
        RefillUnit(tar=unit.tar.replace(SYNTHETIC, REFILL, 1), first=unit.first, last=unit.last, of=unit.tar)
        for unit in run.ledger.units(run.method.generate)
    ]


def needs(run: Run) -> tuple[str, ...]:
    generate = run.method.generate
    return tuple(dict.fromkeys((FINGERPRINT, generate.name, AUDIT, *generate.needs(run))))


STAGE = Stage(
    name=REFILL,
    title="replacements for the images that the audit dropped, audited in the same way",
    config=RefillFaces,
    unit=RefillUnit,
    needs=needs,
    plan=plan,
    work="jobs.stages.refill.work",
)
