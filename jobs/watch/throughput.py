"""How fast a stage goes and how much of it is left, by the heartbeats of its ranks and the markers of its units."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from jobs.frame.errors import USER_ERRORS
from jobs.frame.run import Run
from jobs.frame.stage import Stage
from jobs.watch.units import Units

Beat = Mapping[str, Any]


def images_of_attempt(stage: Stage, beats: Sequence[Beat]) -> int:
    """Images the present attempts tell of: ranks of a distributed stage all count the same ones, others their own."""
    counts = [int(beat.get("images", 0)) for beat in beats]
    return max(counts, default=0) if stage.distributed else sum(counts)


def images_so_far(stage: Stage, units: Units, beats: Sequence[Beat]) -> int:
    """Images of the done units, and of the unit each running rank is in the middle of."""
    if stage.distributed:
        return images_of_attempt(stage, beats) or units.images
    in_hand = 0
    for beat in beats:
        maker = (int(beat["rank"]), str(beat.get("host")), int(beat.get("pid", -1)))
        in_hand += max(0, int(beat.get("images", 0)) - units.by_maker[maker])
    return units.images + in_hand


def images_expected(run: Run, stage: Stage, units: Units, beats: Sequence[Beat]) -> int | None:
    """Images the whole stage will have handled; None where nobody can tell.

    Where every unit is a training of its own, as in the studies, the units not begun count as the mean of the others.
    """
    told = [int(beat["total"]) for beat in beats if beat.get("total")]
    if told and not stage.distributed:
        # The last unit of a rank that has ended is among the done ones.
        told = [int(beat["total"]) for beat in beats if beat.get("total") and beat.get("state") != "done"]
        return round((units.images + sum(told)) * units.total / max(1, units.done + len(told)))
    try:
        return told[0] if told else stage.expected_images(run)
    except USER_ERRORS:
        return None


def images_per_second(stage: Stage, beats: Sequence[Beat]) -> float | None:
    """The pace of the running ranks, each since its first heartbeat with images in it; None before there are two."""
    paces = [pace for pace in map(_pace, beats) if pace is not None]
    if not paces:
        return None
    return max(paces) if stage.distributed else sum(paces)


def _pace(beat: Beat) -> float | None:
    """Both times are of the rank's own clock, so it does not matter how wrong that is."""
    since = beat.get("since")
    if not isinstance(since, dict):
        return None
    seconds = float(beat["time"]) - float(since["time"])
    images = int(beat.get("images", 0)) - int(since["images"])
    return images / seconds if seconds > 0 and images > 0 else None


def seconds_left(*, so_far: int, expected: int | None, pace: float | None) -> float | None:
    if expected is None or not pace:
        return None
    return max(0, expected - so_far) / pace
