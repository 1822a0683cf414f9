"""Throughput and remaining time of a stage, from heartbeats and markers."""

from __future__ import annotations

from collections.abc import Sequence

from jobs.frame.errors import USER_ERRORS
from jobs.frame.run import Run
from jobs.frame.stage import Stage
from jobs.frame.unit import Unit
from jobs.watch.units import Units
from slurm.ranks.heartbeats import Heartbeat


def images_of_attempt(stage: Stage[Unit], heartbeats: Sequence[Heartbeat]) -> int:
    """Images handled by the current attempts. Each rank of a distributed stage counts the images of the whole stage."""
    counts = [heartbeat.images for heartbeat in heartbeats]
    return max(counts, default=0) if stage.distributed else sum(counts)


def images_so_far(stage: Stage[Unit], units: Units, heartbeats: Sequence[Heartbeat]) -> int:
    """Images of the done units, and of the unfinished unit of each running rank."""
    if stage.distributed:
        return images_of_attempt(stage, heartbeats) or units.images
    unfinished = 0
    for heartbeat in heartbeats:
        unfinished += max(0, heartbeat.images - units.images_by_process[heartbeat.worker.process])
    return units.images + unfinished


def images_expected(run: Run, stage: Stage[Unit], units: Units, heartbeats: Sequence[Heartbeat]) -> int | None:
    """Images the whole stage will have handled; None if that is unknown.

    If each unit is a training of its own, as in the studies, units that have not started count as the mean of the
    others.
    """
    reported = [heartbeat for heartbeat in heartbeats if heartbeat.total]
    if reported and not stage.distributed:
        # The last unit of a rank that is done is among the done units.
        totals = [heartbeat.total or 0 for heartbeat in reported if heartbeat.state != "done"]
        return round((units.images + sum(totals)) * units.total / max(1, units.done + len(totals)))
    try:
        return reported[0].total if reported else stage.expected_images(run)
    except USER_ERRORS:
        return None


def images_per_second(stage: Stage[Unit], heartbeats: Sequence[Heartbeat]) -> float | None:
    """The throughput of the running ranks; None before any has reported images twice."""
    found = [throughput for throughput in map(_throughput, heartbeats) if throughput is not None]
    if not found:
        return None
    return max(found) if stage.distributed else sum(found)


def _throughput(heartbeat: Heartbeat) -> float | None:
    """Images per second since `since`. Both times are by the rank's clock, so an error of that clock cancels out."""
    since = heartbeat.since
    if since is None:
        return None
    seconds, images = heartbeat.time - since.time, heartbeat.images - since.images
    return images / seconds if seconds > 0 and images > 0 else None


def seconds_left(*, so_far: int, expected: int | None, throughput: float | None) -> float | None:
    """Seconds until all expected images are handled; None if that cannot be estimated."""
    if expected is None or not throughput:
        return None
    return max(0, expected - so_far) / throughput
