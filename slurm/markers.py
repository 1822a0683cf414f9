"""Markers: a small JSON file that says what was done, with which settings, and which bytes came of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from slurm.files import Output, publish_json, read_json
from slurm.run_folder import StageFolder


@dataclass(frozen=True, kw_only=True)
class Marker:
    """One finished unit of work. `fingerprint` holds every setting and input its outputs depend on."""

    unit: int
    fingerprint: dict[str, Any]
    outputs: tuple[Output, ...]
    counts: dict[str, int]  # images by outcome
    images: int  # images that came out
    started: float  # seconds since the epoch, on the worker's clock: for people, never for decisions
    ended: float
    earlier_seconds: float = 0.0  # spent by stopped attempts whose work this one went on from
    worker: dict[str, Any] = field(default_factory=dict)  # rank, host, pid, job id, restarts
    figures: dict[str, Any] = field(default_factory=dict)  # what the stage measured

    def as_json(self) -> dict[str, Any]:
        return {**vars(self), "outputs": [output.as_json() for output in self.outputs]}


def write_marker(stage: StageFolder, marker: Marker) -> None:
    publish_json(stage.marker(marker.unit), marker.as_json(), replace=True)


def read_marker(stage: StageFolder, unit: int) -> Marker | None:
    """The marker of a unit, or None where there is none or it does not parse."""
    value = read_json(stage.marker(unit))
    try:
        return Marker(**{**value, "outputs": tuple(Output(**output) for output in value["outputs"])})
    except (KeyError, TypeError):
        return None


def marked_units(stage: StageFolder) -> list[int]:
    """The numbers of all units that have a marker, also of those that the present plan does not know."""
    return sorted(int(path.stem) for path in stage.done.glob("*.json") if path.stem.isdigit())


def why_not_done(stage: StageFolder, unit: int, *, fingerprint: Mapping[str, Any]) -> str | None:
    """None if the unit's marker certifies `fingerprint` and its outputs are there; else the reason in a few words."""
    marker = read_marker(stage, unit)
    if marker is None:
        return "not done"
    changed = first_difference(marker.fingerprint, fingerprint)
    if changed:
        return f"stale: {changed}"
    return missing_output(stage, marker.outputs)


def missing_output(stage: StageFolder, outputs: tuple[Output, ...]) -> str | None:
    """The first output that is not there in its full size, in words, or None."""
    for output in outputs:
        try:
            size = stage.output(output.name).stat().st_size
        except OSError:
            return f"missing output: {output.name}"
        if size != output.bytes:
            return f"damaged output: {output.name} has {size} bytes, its marker says {output.bytes}"
    return None


def first_difference(old: Mapping[str, Any], new: Mapping[str, Any], *, path: str = "") -> str | None:
    """The first field in which two fingerprints differ, as `field old -> new`, or None."""
    for key in sorted({*old, *new}):
        name = f"{path}.{key}" if path else key
        before, after = old.get(key), new.get(key)
        if isinstance(before, dict) and isinstance(after, dict):
            inner = first_difference(before, after, path=name)
            if inner:
                return inner
        elif before != after:
            return f"{name} {_short(before)} -> {_short(after)}"
    return None


def _short(value: Any) -> str:
    text = str(value)
    return text if len(text) <= 24 else text[:12] + "..."
