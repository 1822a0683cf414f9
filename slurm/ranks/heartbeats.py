"""Heartbeats: one small JSON file per rank, with what the rank is doing and how its earlier attempts ended."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from pydantic import TypeAdapter, ValidationError

from slurm.disk import listed
from slurm.files import read_json
from slurm.ranks.worker import Worker
from slurm.run_folder import StageFolder

State = Literal["running", "done", "stopped", "failed"]

Requeue = Literal["waiting", "refused"]  # why a stopped job is not requeued: Slurm is silent, or refused it

ENDS: dict[State, str] = {"running": "lost", "stopped": "stopped", "failed": "failed"}

# Keys of the file that differ from the names of the fields: older runs, and ranks that are running, use them.
JSON_NAMES = {"last_saved": "landmark", "saved_at_start": "start_landmark", "without_progress": "fruitless"}

WHERE_SET = {
    "ranks",
    "unit",
    "total",
    "note",
    "reason",
    "exit",
    "since",
    "requeue",
}  # not in the file while they are None


@dataclass(frozen=True, kw_only=True)
class Since:
    """From when the throughput of an attempt counts: start-up and the work of earlier attempts are left out."""

    images: int
    time: float


@dataclass(frozen=True, kw_only=True)
class Heartbeat:
    """What a rank reported last. All times are by the rank's own clock, in seconds since the epoch.

    Attributes:
        images: handled by this attempt; ranks of a distributed stage all count the images of the whole stage.
        ranks: how many ranks share the stage.
        total: images this rank expects to handle, where it knows.
        attempts: earlier attempts by how they ended.
        without_progress: of these, the ones in a row in which nothing durable was saved.
        nodes: where those ran.
        last_saved: the last finished unit or checkpoint.
        saved_at_start: the same, when this attempt started.
    """

    worker: Worker
    state: State
    time: float
    started: float = 0.0
    images: int = 0
    ranks: int | None = None
    unit: int | None = None
    total: int | None = None
    note: str | None = None  # e.g. the loss
    reason: str | None = None  # why the rank stopped or failed
    exit: int | None = None
    requeue: Requeue | None = None
    since: Since | None = None
    attempts: dict[str, int] = field(default_factory=dict)
    without_progress: dict[str, int] = field(default_factory=dict)
    nodes: tuple[str, ...] = ()
    last_saved: str | None = None
    saved_at_start: str | None = None

    @property
    def rank(self) -> int:
        """The number of the rank."""
        return self.worker.rank

    @property
    def ended(self) -> str | None:
        """How the attempt ended if this is its last heartbeat: lost, stopped or failed; None if it is done."""
        return ENDS.get(self.state)

    def as_json(self) -> dict[str, Any]:
        """The content of the file. The worker's fields stand beside the others."""
        fields = {JSON_NAMES.get(name, name): value for name, value in asdict(self).items() if name != "worker"}
        present = {name: value for name, value in fields.items() if value is not None or name not in WHERE_SET}
        return {**asdict(self.worker), **present}

    @staticmethod
    def from_json(value: Any) -> Heartbeat | None:
        """The heartbeat in a JSON value; None if fields are missing or wrong. Unknown fields are ignored."""
        if not isinstance(value, dict):
            return None
        renamed = {name: value[key] for name, key in JSON_NAMES.items() if key in value}
        try:
            return _HEARTBEAT.validate_python({**value, **renamed, "worker": value})
        except ValidationError:
            return None


_HEARTBEAT = TypeAdapter(Heartbeat)


def read_heartbeats(stage: StageFolder) -> list[Heartbeat]:
    """All heartbeats of a stage, by rank. Damaged and foreign files are left out.

    Raises:
        DiskError: one cannot be read.
    """
    names = [name for name in listed(stage.heartbeats) if name.endswith(".json") and not name.startswith(".")]
    paths = [stage.heartbeats / name for name in names]
    return [heartbeat for heartbeat in map(_read, paths) if heartbeat is not None]


def read_heartbeat(stage: StageFolder, rank: int) -> Heartbeat | None:
    """The heartbeat of one rank; None where there is none or it cannot be read."""
    return _read(stage.heartbeat(rank))


def _read(path: Path) -> Heartbeat | None:
    return Heartbeat.from_json(read_json(path))
