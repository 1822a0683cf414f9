"""`<stage>/summary.json`: the outputs and figures of a finished stage, written by its last rank."""

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
    """The record of a finished stage.

    Attributes:
        counts: images by outcome; they add up to `images_in`.
        figures: what the stage measured, as JSON.
        wall_seconds: time during which at least one unit was being worked on, without the time between attempts.
        started: of the first unit, in seconds since the epoch.
        ended: of the last unit, in seconds since the epoch.
        outcome: a digest of all outputs.
        fingerprint: the config, inputs and plan that the summary certifies.
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
    """The stage's summary; None if it is not finished, or the file has not every field. Unknown fields are ignored.

    Raises:
        DiskError: it cannot be read. The stage may be finished.
    """
    value = read_json(folder.summary)
    names = [part.name for part in fields(Summary)]
    if not isinstance(value, dict) or not value.keys() >= set(names):
        return None
    known = {name: value[name] for name in names}
    try:
        return Summary(**{**known, "outputs": tuple(Output(**output) for output in value["outputs"])})
    except TypeError:  # another program's outputs
        return None


def finish_if_last(run: Run, stage: Stage[Unit]) -> bool:
    """Write the stage's summary if every unit is done; returns whether it was written. Writing it twice is harmless."""
    folder = run.stage_folder(stage.name)
    # Most ranks return here: one folder listing shows that other ranks are still working.
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
        outcome=outcome_of(outputs),
        fingerprint=fingerprint,
    )


def outcome_of(outputs: Sequence[Output]) -> str:
    """The digest of a stage's outputs."""
    return digest([output.as_json() for output in outputs])


def _covered(spans: Iterable[tuple[float, float]]) -> float:
    """Seconds covered by at least one span (start, end)."""
    total, end = 0.0, float("-inf")
    for start, stop in sorted(spans):
        total += max(0.0, stop - max(start, end))
        end = max(end, stop)
    return total
