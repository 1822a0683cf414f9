"""How far a stage is, by its markers. Each folder is listed once, so that 20,000 units take about a second."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from jobs.frame.run import Run
from jobs.frame.stage import Stage
from jobs.frame.unit import Unit
from slurm.markers import Sizes, marked_units, read_marker, why_not_certified


@dataclass(frozen=True, kw_only=True)
class Units:
    """The units of a stage, as `status` shows them."""

    total: int
    done: int
    left: str | None  # the first reason why the stage is not finished, None if it is
    images: int = 0  # handled by the done units, whatever their outcome
    images_by_process: Counter[tuple[int, str, int]] = field(default_factory=Counter)  # the same, see Worker.process


def read_units(run: Run, stage: Stage[Unit]) -> Units:
    """Compare the stage's markers with the current config and inputs.

    The summary of a finished stage certifies all of its outputs, so its markers are not read.
    """
    folder = run.stage_folder(stage.name)
    plan = run.ledger.plan(stage.name).units
    sizes = Sizes(folder, listed=True)
    marked = set(marked_units(folder))
    left = run.ledger.why_not_summarized(stage, sizes=sizes)
    summary = run.ledger.summary(stage.name)
    if summary and left is None and marked.issuperset(range(len(plan))):
        return Units(total=len(plan), done=len(plan), left=None, images=summary.images_in)
    common = run.ledger.fingerprint(stage, {})
    done, images, first = 0, 0, None
    by_process: Counter[tuple[int, str, int]] = Counter()
    for number, unit in enumerate(plan):
        marker = read_marker(folder, number) if number in marked else None
        reason = why_not_certified(marker, fingerprint={**common, "unit": unit.as_json()}, sizes=sizes)
        if marker is not None and reason is None:
            done += 1
            handled = sum(marker.counts.values())
            images += handled
            if marker.worker is not None:
                by_process[marker.worker.process] += handled
        first = first or reason
    return Units(total=len(plan), done=done, left=first or left, images=images, images_by_process=by_process)
