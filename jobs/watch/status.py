"""The status of a run: markers, heartbeats, squeue and sacct, merged into one value per stage."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from jobs.frame.run import Run
from jobs.frame.stage import Stage
from jobs.frame.summary import Summary
from jobs.frame.unit import Unit
from jobs.watch.pending_reasons import held_together
from jobs.watch.rank_states import RankState, by_cause, waits_for_a_job
from jobs.watch.throughput import images_expected, images_per_second, images_so_far, seconds_left
from jobs.watch.units import Units
from slurm.disk import exists
from slurm.ranks.heartbeats import Heartbeat
from slurm.ranks.launcher import Launcher

StageState = Literal[
    "done", "running", "held", "queued", "failed", "lost", "stopped", "stale", "partial", "unknown", "not started"
]

# The state of a stage whose ranks are in several states: the first of these.
ORDER: tuple[StageState, ...] = ("running", "held", "queued", "failed", "lost", "stopped", "unknown")


@dataclass(frozen=True, kw_only=True)
class StageStatus:
    """One stage. `seconds` is its wall time once it is done; `seconds_left` an estimate while it runs."""

    name: str
    state: StageState
    reason: str = ""
    units: int | None = None  # None: not planned yet
    units_done: int = 0
    images: int | None = None  # handled so far; once the stage is done: images that came out
    images_expected: int | None = None
    images_per_second: float | None = None
    seconds: float | None = None
    seconds_left: float | None = None
    ranks: tuple[RankState, ...] = ()

    def in_state(self, *states: str) -> list[RankState]:
        """The ranks in one of these states."""
        return [rank for rank in self.ranks if rank.state in states]

    @property
    def restarts(self) -> Counter[str]:
        """Earlier attempts of all ranks, by how they ended."""
        total: Counter[str] = Counter()
        for rank in self.ranks:
            total.update(rank.restarts)
        return total

    @property
    def troubled(self) -> list[RankState]:
        """Ranks that failed or are lost, the first cause first."""
        return by_cause(self.ranks) if self.state != "done" else []


@dataclass(frozen=True, kw_only=True)
class RunStatus:
    """The stages of a run, in order."""

    stages: tuple[StageStatus, ...]
    launcher: Launcher | None  # the process that is working on the run, if any
    no_answer: str | None  # why squeue gave no answer, if it was asked
    jobless: tuple[str, ...] = ()  # stages with work for which no job is in the queue, while others have theirs
    no_accounts: str | None = None  # the same for sacct

    @property
    def done(self) -> bool:
        """Whether every stage is done."""
        return all(stage.state == "done" for stage in self.stages)

    @property
    def at_work(self) -> bool:
        """Whether there is something to wait for, including ranks that only Slurm, which gave no answer, could know.

        Jobs that wait for held ones are nothing to wait for.
        """
        if self.launcher is not None:
            return True
        waited_for = ("running", "queued", "unknown") if self.no_answer else ("running", "queued")
        ranks = [rank for stage in self.stages for rank in stage.in_state(*waited_for)]
        return any(not (self.held and waits_for_a_job(rank)) for rank in ranks)

    @property
    def held(self) -> bool:
        """Whether jobs are held in the queue: they never start by themselves."""
        return any(stage.in_state("held") for stage in self.stages)

    @property
    def in_trouble(self) -> bool:
        """Whether ranks failed or are lost."""
        return any(stage.troubled for stage in self.stages)


def finished_stage(
    stage: Stage[Unit], units: Units, ranks: tuple[RankState, ...], *, summary: Summary, waits: Sequence[str]
) -> StageStatus:
    """A stage whose units are all done. It is stale if a stage it needs (`waits`) is not done."""
    return StageStatus(
        name=stage.name,
        state="stale" if waits else "done",
        reason=f"made from an earlier version of {', '.join(waits)}" if waits else "",
        units=units.total,
        units_done=units.done,
        images=summary.images_out,
        images_per_second=summary.images_per_second,
        seconds=summary.wall_seconds,
        ranks=ranks,
    )


def unfinished_stage(
    run: Run, stage: Stage[Unit], units: Units, ranks: tuple[RankState, ...], *, waits: Sequence[str]
) -> StageStatus:
    """A stage with unfinished units."""
    if waits and not any(rank.facts.heartbeat or rank.state not in {"stopped", "unknown"} for rank in ranks):
        ranks = ()  # Slurm removed their jobs from the queue before they started
    heartbeats = [rank.facts.heartbeat for rank in ranks if rank.facts.heartbeat]
    running = _of_running(ranks)
    found: Counter[str] = Counter(rank.state for rank in ranks)
    state: StageState = next((state for state in ORDER if found[state]), _state_by_units(run, stage, units))
    # Each rank of a distributed stage counts the whole stage's images, so ended ranks count, too.
    counting = heartbeats if stage.distributed else running
    so_far, expected = images_so_far(stage, units, counting), images_expected(run, stage, units, counting)
    throughput = images_per_second(stage, running)
    return StageStatus(
        name=stage.name,
        state=state,
        reason=_reason(ranks) or _reason_by_units(state, units, waits=waits),
        units=units.total,
        units_done=units.done,
        images=so_far,
        images_expected=expected,
        images_per_second=throughput,
        seconds_left=seconds_left(so_far=so_far, expected=expected, throughput=throughput),
        ranks=ranks,
    )


def _state_by_units(run: Run, stage: Stage[Unit], units: Units) -> StageState:
    if units.left is not None and units.left.startswith("stale"):
        return "stale"
    return "partial" if units.done or exists(run.stage_folder(stage.name).summary) else "not started"


def _reason_by_units(state: StageState, units: Units, *, waits: Sequence[str]) -> str:
    if state in {"running", "queued", "held"}:
        return ""
    return f"needs {', '.join(waits)}" if waits and state != "stale" else units.left or ""


def _reason(ranks: Sequence[RankState]) -> str:
    """The ranks in words: trouble first, then how many are in which state, then the most frequent reasons."""
    parts = []
    trouble = by_cause(ranks)
    if trouble:
        more = f" (and {len(trouble) - 1} more)" if len(trouble) > 1 else ""
        parts.append(f"rank {trouble[0].rank} {trouble[0].state}{more}: {trouble[0].reason}")
    found = Counter(rank.state for rank in ranks)
    if len(ranks) > 1 and set(found) != {"done"}:
        parts.append(", ".join(f"{count} {state}" for state, count in found.most_common()))
    parts.extend(held_together([rank.facts.task for rank in ranks if rank.state == "held" and rank.facts.task]))
    for state in ("queued", "stopped", "unknown", "running"):
        reasons = Counter(rank.reason for rank in ranks if rank.state == state and rank.reason)
        if reasons:
            reason, count = reasons.most_common(1)[0]
            first = next(rank.rank for rank in ranks if rank.state == state and rank.reason == reason)
            parts.append(f"{reason} (rank {first}{f' and {count - 1} more' if count > 1 else ''})")
    parts.extend([heartbeat.note for heartbeat in _of_running(ranks) if heartbeat.note][:1])
    return "; ".join(parts)


def _of_running(ranks: Sequence[RankState]) -> list[Heartbeat]:
    return [rank.facts.heartbeat for rank in ranks if rank.state == "running" and rank.facts.heartbeat]
