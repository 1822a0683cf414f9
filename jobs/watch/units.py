"""How far a stage is, by its markers: each folder is listed once, so that 20,000 units take about a second."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from jobs.frame.run import Run
from jobs.frame.stage import Stage
from slurm.markers import Marker, Sizes, marked_units, read_marker, why_not_certified

Maker = tuple[int, str, int]  # the rank, host and process that made a unit


@dataclass(frozen=True, kw_only=True)
class Units:
    """The units of a stage as `status` shows them."""

    total: int
    done: int
    left: str | None  # the first reason why the stage is not finished, None if it is
    images: int = 0  # that the done units have handled, whatever became of them
    by_maker: Counter[Maker] = field(default_factory=Counter)  # those images, by who handled them


def read_units(run: Run, stage: Stage) -> Units:
    """Compare the stage's markers with what the present config and inputs ask for.

    A finished stage is known by its summary, which certifies all of its outputs; single markers are then not read.
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
    makers: Counter[Maker] = Counter()
    for number, unit in enumerate(plan):
        marker = read_marker(folder, number) if number in marked else None
        reason = why_not_certified(marker, fingerprint={**common, "unit": unit.as_json()}, sizes=sizes)
        if marker is not None and reason is None:
            done += 1
            handled = sum(marker.counts.values())
            images += handled
            makers[_maker(marker)] += handled
        first = first or reason
    return Units(total=len(plan), done=done, left=first or left, images=images, by_maker=makers)


def _maker(marker: Marker) -> Maker:
    worker = marker.worker
    return int(worker.get("rank", -1)), str(worker.get("host")), int(worker.get("pid", -1))
