"""`<stage>/summary.json`: what a finished stage made, written by the rank that finishes it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, fields
from typing import TYPE_CHECKING, Any

from slurm.files import Output, digest, publish_json, read_json
from slurm.markers import Marker, marked_units
from slurm.run_folder import StageFolder

if TYPE_CHECKING:
    from jobs.frame.run import Run
    from jobs.frame.stage import Finish, Stage
    from jobs.frame.unit import Unit


@dataclass(frozen=True, kw_only=True)
class Summary:
    """A finished stage.

    Attributes:
        counts: how many images ended in which outcome; they add up to `images_in`.
        figures: what the stage measured, JSON-ready.
        wall_seconds: time covered by at least one unit's work; waiting between attempts is left out.
        started, ended: of the first and the last unit, seconds since the epoch.
        outcome: a digest of all outputs.
        fingerprint: the config, inputs and plan that it certifies.
    """

    stage: str
    units: int
    images_in: int
    images_out: int
    counts: dict[str, int]
    figures: dict[str, Any]
    wall_seconds: float
    images_per_second: float
    started: float
    ended: float
    outputs: tuple[Output, ...]
    outcome: str
    fingerprint: dict[str, Any]


def read_summary(folder: StageFolder) -> Summary | None:
    """The stage's summary, None while it has not finished."""
    value = read_json(folder.summary)
    names = [part.name for part in fields(Summary)]
    if not isinstance(value, dict) or not value.keys() >= set(names):
        return None  # what does not certify everything certifies nothing
    known = {name: value[name] for name in names}
    return Summary(**{**known, "outputs": tuple(Output(**output) for output in value["outputs"])})


def finish_if_last(run: Run, stage: Stage[Unit]) -> bool:
    """Write the stage's summary if every unit is done; the last rank does it, and doing it twice is harmless."""
    folder = run.stage_folder(stage.name)
    # Most ranks find here, by listing one folder, that others are still at work.
    if len(marked_units(folder)) < len(run.ledger.plan(stage.name).units):
        return False
    if any(state is not None for state in run.ledger.unit_states(stage)):
        return False
    markers = run.ledger.markers(stage.name)
    summary = _summarize(stage.name, markers, stage.finish(run, markers), fingerprint=run.ledger.fingerprint(stage))
    publish_json(folder.summary, asdict(summary), replace=True)
    return True


def _summarize(stage: str, markers: Sequence[Marker], end: Finish, *, fingerprint: dict[str, Any]) -> Summary:
    outputs = (*(output for marker in markers for output in marker.outputs), *end.outputs)
    counts: Counter[str] = Counter(end.counts)
    for marker in markers:
        counts.update(marker.counts)
    seconds = _covered((marker.started, marker.ended) for marker in markers)
    seconds += sum(marker.earlier_seconds for marker in markers)
    images = sum(marker.images for marker in markers) if end.images_out is None else end.images_out
    return Summary(
        stage=stage,
        units=len(markers),
        images_in=sum(counts.values()) if end.images_in is None else end.images_in,
        images_out=images,
        counts=dict(counts),
        figures=end.figures,
        wall_seconds=round(seconds, 2),
        images_per_second=round(images / seconds, 2) if seconds > 0 else 0.0,
        started=min(marker.started for marker in markers),
        ended=max(marker.ended for marker in markers),
        outputs=outputs,
        outcome=digest([output.as_json() for output in outputs]),
        fingerprint=fingerprint,
    )


def _covered(spans: Iterable[tuple[float, float]]) -> float:
    """Seconds covered by at least one span: waiting between two attempts does not count as work."""
    total, end = 0.0, float("-inf")
    for start, stop in sorted(spans):
        total += max(0.0, stop - max(start, end))
        end = max(end, stop)
    return total
