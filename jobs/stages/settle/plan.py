"""Settle: the tars that will be published, and the verdict about exactly them.

Dropped images are removed and their replacements are added. This changes the mean embedding of an identity, so it is
audited again. If the new mean is too close to a real face or center, all images of the identity are removed. Means of
other identities do not change. People of `withdrawn.json` are left out.
"""

from __future__ import annotations

from dataclasses import dataclass

from jobs.frame.products import AUDIT, FINGERPRINT, REFILL, SETTLE
from jobs.frame.run import Run
from jobs.frame.stage import Cost, Stage
from jobs.frame.stage_config import StageConfig
from jobs.frame.unit import Unit
from jobs.stages.settle.withdrawn import withdrawn_files


class SettleSet(StageConfig):
    """Nothing to choose: net and thresholds are the audit's."""


@dataclass(frozen=True, kw_only=True)
class SettleUnit(Unit):
    """A synthetic tar."""

    tar: str


def plan(run: Run) -> list[SettleUnit]:
    """One unit per synthetic tar."""
    return [SettleUnit(tar=unit.tar) for unit in run.ledger.units(run.method.generate)]


def cost(run: Run) -> Cost | None:
    """The set once more on the disk; `publish` gives these files a second name."""
    made = run.method.generate.cost(run)
    return Cost(gpu_hours=None, disk_bytes=made.disk_bytes) if made else None


STAGE = Stage(
    unit=SettleUnit,
    name=SETTLE,
    title="the tars to publish; identities whose images changed are audited again",
    config=SettleSet,
    needs=lambda run: (FINGERPRINT, run.method.generate.name, AUDIT, *((REFILL,) if run.includes(REFILL) else ())),
    plan=plan,
    work="jobs.stages.settle.work",
    expected_images=lambda run: run.method.generate.expected_images(run),
    cost=cost,
    files=withdrawn_files,
)
