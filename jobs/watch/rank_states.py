"""What became of a rank: its heartbeat, Slurm's word on it, and whether its process lives, made one state."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from slurm.queue import Task

State = Literal["done", "running", "queued", "stopped", "failed", "lost", "unknown"]

SECONDS_SILENT = 300.0  # a rank that said nothing for so long is told to be silent

SECONDS_LOST = 1800.0  # and is given up after that, if nobody but its own clock can be asked

LEFT = {"running": "lost", "stopped": "stopped", "failed": "failed"}  # how an attempt ended that last said so

WAITS = {
    "Priority": "waits its turn",
    "Resources": "waits for free nodes",
    "Dependency": "waits for an earlier job",
    "DependencyNeverSatisfied": "never starts: a job before it failed; run the same command again",
    "BeginTime": "may start again shortly",
    "JobArrayTaskLimit": "waits: as many ranks run as array.parallel allows",
    "JobHeldUser": "held; `scontrol release {job}`",
    "JobHeldAdmin": "held by an administrator",
    "JobHoldMaxRequeue": "held after too many restarts; `scontrol release {job}`",
}

ENDS: dict[str, tuple[State, str]] = {
    "COMPLETED": ("done", ""),
    "OUT_OF_MEMORY": ("failed", "out of memory; raise {resources}.memory_gb in the cluster file"),
    "TIMEOUT": ("failed", "out of time before its work was saved; raise {resources}.minutes in the cluster file"),
    "CANCELLED": ("stopped", "canceled"),
    "NODE_FAIL": ("lost", "its node {node} failed"),
    "BOOT_FAIL": ("lost", "its node {node} did not start"),
    "PREEMPTED": ("lost", "preempted and not put back into the queue"),
    "DEADLINE": ("lost", "its deadline passed"),
}


@dataclass(frozen=True, kw_only=True)
class Evidence:
    """Everything known about one rank."""

    beat: Mapping[str, Any] | None  # its last heartbeat
    task: Task | None = None  # what Slurm says of it
    submitted: bool = False  # by Slurm it runs, or ran
    silence: str | None = None  # why Slurm says nothing at all
    alive: bool | None = None  # whether its process exists; None: on another host
    silent: float = 0.0  # seconds since its last heartbeat, as far as that can be told
    distributed: bool = False


@dataclass(frozen=True, kw_only=True)
class RankState:
    """The verdict on one rank, with a reason in a few words where there is one."""

    rank: int
    state: State
    reason: str = ""
    evidence: Evidence

    @property
    def restarts(self) -> Counter[str]:
        """Attempts before the present one, by how they ended: as the rank told it, or the accounting, or nobody."""
        beat, task = self.evidence.beat or {}, self.evidence.task
        told = beat.get("attempts")
        ends: Counter[str] = Counter()
        if isinstance(told, dict):
            ends.update({str(end): int(count) for end, count in told.items() if count})
        own, counted = int(beat.get("restarts") or 0), task.restarts if task else 0
        if task is not None and not ends:
            ends.update(end.lower() for end in task.earlier)
        if ends.total() < counted and own < counted and beat.get("state") in LEFT:
            ends[LEFT[beat["state"]]] += 1  # the heartbeat is the last attempt's; the next one has not spoken yet
        unknown = max(own, counted) - ends.total()
        return ends + Counter({"restarted": unknown}) if unknown > 0 else ends

    @property
    def exit(self) -> int | None:
        """The exit code, as the rank told it, or else Slurm."""
        beat, task = self.evidence.beat or {}, self.evidence.task
        if isinstance(beat.get("exit"), int):
            return int(beat["exit"])
        if task is None or task.pending or task.running:
            return None
        if task.state == "OUT_OF_MEMORY":  # which the accounting gives a signal of its own invention
            return 128 + 9
        return 128 + task.signal if task.signal else task.exit

    @property
    def node(self) -> str:
        beat, task = self.evidence.beat or {}, self.evidence.task
        return str(beat.get("host") or (task.node if task else ""))


def judge(rank: int, evidence: Evidence) -> RankState:
    """The state of one rank. Slurm's word on a job that waits or runs stands above what the last attempt said."""
    state, reason = _judge(evidence)
    return RankState(rank=rank, state=state, reason=reason, evidence=evidence)


def by_cause(ranks: Sequence[RankState]) -> list[RankState]:
    """The ranks that failed or are lost, the cause before those that it took along.

    A rank that died says nothing, and its partners in a collective then fail; of those that failed, the first.
    """
    troubled = [rank for rank in ranks if rank.state in {"failed", "lost"}]
    return sorted(troubled, key=lambda rank: (rank.state != "lost", float((rank.evidence.beat or {}).get("time", 0.0))))


def _judge(evidence: Evidence) -> tuple[State, str]:
    beat, task = evidence.beat, evidence.task
    told = str(beat.get("state")) if beat else None
    if task is not None and task.pending:
        return "queued", _why_queued(task)
    if task is not None and not _is_of(beat, task):
        return ("running", "starting") if task.running else _why_ended(task, distributed=evidence.distributed)
    if beat is not None and told in {"done", "failed", "stopped"}:
        return _told(beat, task)
    if task is not None and task.running:
        return "running", _heard(evidence) if task.state in {"RUNNING", "COMPLETING"} else task.state.lower()
    if task is not None:
        return _why_ended(task, distributed=evidence.distributed)
    if evidence.alive:
        return "running", _heard(evidence)
    return _judge_without_slurm(evidence)


def _told(beat: Mapping[str, Any], task: Task | None) -> tuple[State, str]:
    """The end that the rank itself has told."""
    reason = str(beat.get("reason") or "")
    if beat["state"] == "done":
        return "done", ""
    if beat["state"] == "failed":
        return "failed", reason
    canceled = task is not None and task.state == "CANCELLED"
    return "stopped", "canceled, its work is saved" if canceled else f"was asked to stop ({reason}), its work is saved"


def _is_of(beat: Mapping[str, Any] | None, task: Task) -> bool:
    """Whether the heartbeat is of the present attempt, not of an earlier one, an earlier job, or the canary."""
    if beat is None or int(beat.get("restarts") or 0) < task.restarts:
        return False
    return beat.get("job") in {None, task.name}


def _judge_without_slurm(evidence: Evidence) -> tuple[State, str]:
    """Of a rank that has not told of its end, that Slurm says nothing about, and whose process is not here."""
    if evidence.beat is None:
        return "unknown", f"never heard of, and {evidence.silence or 'unknown to Slurm'}"
    if evidence.submitted and evidence.silence is None:
        return "lost", "unknown to Slurm, and it did not tell of its end"
    if evidence.alive is False:
        return "lost", "its process is gone without a word (killed, or out of memory?)"
    if evidence.silent < SECONDS_LOST:
        return "running", _heard(evidence)
    return "lost", f"not heard of for {minutes(evidence.silent)}"


def _why_queued(task: Task) -> str:
    words = WAITS.get(task.reason, "").format(job=task.name)
    reason = task.reason or task.state
    text = f"{reason}: {words}" if words else reason
    return f"restarted {task.restarts} x, {text}" if task.restarts else text


def _why_ended(task: Task, *, distributed: bool) -> tuple[State, str]:
    resources = "train" if distributed else "array"
    if task.state in ENDS:
        state, words = ENDS[task.state]
        return state, words.format(resources=resources, node=task.node)
    if task.signal == 9 or task.exit == 137:  # as a signal, and as shells tell it
        return "lost", f"killed (out of memory? then raise {resources}.memory_gb in the cluster file)"
    return "lost", f"ended without a word (Slurm: {task.state}, exit {task.exit}, signal {task.signal})"


def _heard(evidence: Evidence) -> str:
    return f"silent for {minutes(evidence.silent)}" if evidence.silent >= SECONDS_SILENT else ""


def minutes(seconds: float) -> str:
    """A length of time for people."""
    for unit, length in (("days", 86400.0), ("h", 3600.0), ("min", 60.0)):
        if seconds >= 2 * length:
            return f"{seconds / length:.0f} {unit}"
    return f"{seconds:.0f} s"
