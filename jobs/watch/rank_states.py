"""The state of a rank, from its heartbeat, from Slurm and from the process table."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from jobs.watch.pending_reasons import is_held, why_queued
from jobs.watch.task_reasons import State, duration, why_ended
from slurm.ranks.heartbeats import Heartbeat
from slurm.submission.queue import Task

SECONDS_SILENT = 300.0  # after this time without a heartbeat, `status` mentions it

SECONDS_LOST = 1800.0  # and after this, a rank counts as lost if there is no other source than its clock


@dataclass(frozen=True, kw_only=True)
class RankFacts:
    """Everything known about one rank."""

    heartbeat: Heartbeat | None  # its last one
    task: Task | None = None  # its task, as Slurm sees it
    submitted: bool = False  # whether it was submitted to Slurm
    no_answer: str | None = None  # why Slurm gave no answer
    alive: bool | None = None  # whether its process exists; None: on another host
    silent: float = 0.0  # seconds since its last heartbeat, as well as can be known
    distributed: bool = False


@dataclass(frozen=True, kw_only=True)
class RankState:
    """The state of one rank, with a short reason where there is one."""

    rank: int
    state: State
    reason: str = ""
    facts: RankFacts

    @property
    def restarts(self) -> Counter[str]:
        """Attempts before the current one, by how they ended.

        From the rank's heartbeat, or else from the accounting. Those that neither knows count as "restarted".
        """
        heartbeat, task = self.facts.heartbeat, self.facts.task
        own = heartbeat.worker.restarts if heartbeat else 0
        counted = task.restarts if task else 0
        ends: Counter[str] = Counter()
        if heartbeat is not None:
            ends.update({end: count for end, count in heartbeat.attempts.items() if count})
        if task is not None and not ends:
            ends.update(end.lower() for end in task.earlier)
        if heartbeat is not None and heartbeat.ended and ends.total() < counted and own < counted:
            ends[heartbeat.ended] += 1  # the heartbeat is of the last attempt; the current one has not written yet
        unknown = max(own, counted) - ends.total()
        return ends + Counter({"restarted": unknown}) if unknown > 0 else ends

    @property
    def exit(self) -> int | None:
        """The exit code that the rank recorded, or else Slurm's."""
        heartbeat, task = self.facts.heartbeat, self.facts.task
        if heartbeat is not None and heartbeat.exit is not None:
            return heartbeat.exit
        if task is None or task.pending or task.running:
            return None
        if task.state == "OUT_OF_MEMORY":  # its signal in the accounting (125) is not the one that killed it
            return 128 + 9
        return 128 + task.signal if task.signal else task.exit

    @property
    def node(self) -> str:
        """Where it runs, or ran last; "" if that is unknown."""
        heartbeat, task = self.facts.heartbeat, self.facts.task
        return (heartbeat.worker.host if heartbeat else "") or (task.node if task else "")


def state_of(rank: int, facts: RankFacts) -> RankState:
    """The state of one rank. If Slurm says that its job waits or runs, the last attempt's heartbeat does not count."""
    state, reason = _state(facts)
    return RankState(rank=rank, state=state, reason=reason, facts=facts)


def waits_for_a_job(rank: RankState) -> bool:
    """Whether its job waits for another one to end."""
    return rank.state == "queued" and rank.facts.task is not None and rank.facts.task.reason == "Dependency"


def by_cause(ranks: Sequence[RankState]) -> list[RankState]:
    """The failed and lost ranks, the first cause first.

    A killed rank records no end, and then the other ranks of its process group fail: so lost ranks come first, then
    failed ones in the order of their last heartbeats.
    """
    troubled = [rank for rank in ranks if rank.state in {"failed", "lost"}]
    return sorted(troubled, key=lambda rank: (rank.state != "lost", _last_heard(rank)))


def _last_heard(rank: RankState) -> float:
    return rank.facts.heartbeat.time if rank.facts.heartbeat else 0.0


def _state(facts: RankFacts) -> tuple[State, str]:
    heartbeat, task = facts.heartbeat, facts.task
    if task is not None and task.pending:
        return "held" if is_held(task) else "queued", why_queued(task)
    if task is not None and not _is_of_attempt(heartbeat, task):
        return ("running", "starting") if task.running else why_ended(task, distributed=facts.distributed)
    if heartbeat is not None and heartbeat.state != "running":
        return _recorded_end(heartbeat, task)
    if task is not None and task.running:
        return "running", _silence(facts) if task.state in {"RUNNING", "COMPLETING"} else task.state.lower()
    if task is not None:
        return why_ended(task, distributed=facts.distributed)
    if facts.alive:
        return "running", _silence(facts)
    return _state_without_slurm(facts)


def _recorded_end(heartbeat: Heartbeat, task: Task | None) -> tuple[State, str]:
    """The end that the rank itself recorded."""
    if heartbeat.state == "done":
        return "done", ""
    reason = heartbeat.reason or ""
    if heartbeat.state == "failed":
        return "failed", reason
    canceled = task is not None and task.state == "CANCELLED"
    return "stopped", "canceled, its work is saved" if canceled else f"was asked to stop ({reason}), its work is saved"


def _is_of_attempt(heartbeat: Heartbeat | None, task: Task) -> bool:
    """Whether the heartbeat is of the task's current attempt, not of an earlier one, an earlier job, or the canary."""
    if heartbeat is None or heartbeat.worker.restarts < task.restarts:
        return False
    return heartbeat.worker.job in {None, task.name}


def _state_without_slurm(facts: RankFacts) -> tuple[State, str]:
    """The state of a rank that recorded no end, that Slurm has no task for, and whose process is not on this host."""
    if facts.heartbeat is None:
        return "unknown", f"no heartbeat, and {facts.no_answer or 'unknown to Slurm'}"
    if facts.submitted and facts.no_answer is None:
        return "lost", "unknown to Slurm, and it recorded no end"
    if facts.alive is False:
        return "lost", "its process is gone and recorded no reason (killed, or out of memory?)"
    if facts.silent < SECONDS_LOST:
        return "running", _silence(facts)
    return "lost", f"no heartbeat for {duration(facts.silent)}"


def _silence(facts: RankFacts) -> str:
    return f"no heartbeat for {duration(facts.silent)}" if facts.silent >= SECONDS_SILENT else ""
