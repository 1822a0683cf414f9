"""Markers: a small JSON file per finished unit with its settings, its outputs and their hashes."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from slurm.disk import ABSENT, listed, told, tried_again
from slurm.files import Output, publish_json, read_json
from slurm.ranks.worker import Worker
from slurm.run_folder import StageFolder


@dataclass(frozen=True, kw_only=True)
class Marker:
    """One finished unit of work. `fingerprint` holds every setting and input that its outputs depend on."""

    unit: int
    fingerprint: dict[str, Any]
    outputs: tuple[Output, ...]
    counts: dict[str, int]  # images by outcome
    images: int  # that came out
    started: float  # seconds since the epoch by the worker's clock; shown to people, no code decides by it
    ended: float
    earlier_seconds: float = 0.0  # spent by stopped attempts that this one continued
    worker: Worker | None = None  # None: not recorded
    figures: dict[str, Any] = field(default_factory=dict)  # what the stage measured


def write_marker(stage: StageFolder, marker: Marker) -> None:
    """Write the marker of a unit; an older one is replaced."""
    outputs = [output.as_json() for output in marker.outputs]
    worker = asdict(marker.worker) if marker.worker is not None else {}
    publish_json(stage.marker(marker.unit), {**vars(marker), "outputs": outputs, "worker": worker}, replace=True)


def read_marker(stage: StageFolder, unit: int) -> Marker | None:
    """The marker of a unit; None where there is none, it is damaged, or it has fields of another version or type.

    Raises:
        DiskError: it cannot be read. The unit may be done.
    """
    value = read_json(stage.marker(unit))
    try:
        outputs = tuple(Output(**output) for output in value["outputs"])
        named = all(isinstance(output.name, str) for output in outputs)
        if not named or not isinstance(value["fingerprint"], dict):
            return None
        return Marker(**{**value, "outputs": outputs, "worker": Worker.from_json(value.get("worker"))})
    except (AttributeError, KeyError, TypeError):
        return None


def marked_units(stage: StageFolder) -> list[int]:
    """The numbers of all units that have a marker, including units that are not in the current plan."""
    stems = (name.removesuffix(".json") for name in listed(stage.done) if name.endswith(".json"))
    return sorted(int(stem) for stem in stems if stem.isdecimal())


class Sizes:
    """Sizes of a stage's outputs. With `listed`, each folder is listed once instead of one stat per file."""

    def __init__(self, stage: StageFolder, *, listed: bool = False) -> None:
        self._stage, self._listed = stage, listed
        self._folders: dict[str, dict[str, int]] = {}

    def of(self, name: str) -> int | None:
        """The size of an output in bytes, None where there is none.

        Raises:
            DiskError: that cannot be found out.
        """
        if self._listed:
            parent, _, base = name.rpartition("/")
            known = self._folder(parent).get(base)
            if known is not None:
                return known
        path = self._stage.output(name)
        try:  # the listing may be older than the file, so a name it does not hold is looked up
            return tried_again(path.stat).st_size
        except OSError as error:
            if error.errno in ABSENT:
                return None
            raise told(path, error, doing="read") from error

    def _folder(self, name: str) -> dict[str, int]:
        if name not in self._folders:
            try:
                with os.scandir(self._stage.output(name)) as entries:
                    self._folders[name] = {entry.name: entry.stat().st_size for entry in entries}
            except OSError:  # each name is looked up then, which tells the error
                self._folders[name] = {}
        return self._folders[name]


def why_not_done(stage: StageFolder, unit: int, *, fingerprint: Mapping[str, Any]) -> str | None:
    """None if the unit's marker certifies `fingerprint` and its outputs exist; else the reason in a few words."""
    return why_not_certified(read_marker(stage, unit), fingerprint=fingerprint, sizes=Sizes(stage))


def why_not_certified(marker: Marker | None, *, fingerprint: Mapping[str, Any], sizes: Sizes) -> str | None:
    """As `why_not_done`, for a marker that was already read."""
    if marker is None:
        return "not done"
    changed = first_difference(marker.fingerprint, fingerprint)
    if changed:
        return f"stale: {changed}"
    return missing_output(marker.outputs, sizes=sizes)


def missing_output(outputs: tuple[Output, ...], *, sizes: Sizes) -> str | None:
    """What is wrong with the first output that is missing or has another size; None if all are whole."""
    for output in outputs:
        size = sizes.of(output.name)
        if size is None:
            return f"missing output: {output.name}"
        if size != output.bytes:
            return f"damaged output: {output.name} has {size} bytes, its marker says {output.bytes}"
    return None


def first_difference(old: Mapping[str, Any], new: Mapping[str, Any], *, path: str = "") -> str | None:
    """The first field in which two fingerprints differ, as `field old -> new`; None if they are equal."""
    if old == new:
        return None
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
    text = str(value) or "none"
    return text if len(text) <= 24 else text[:12] + "..."
