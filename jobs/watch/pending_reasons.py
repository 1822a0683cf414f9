"""Why Slurm lets a job wait: what its reasons mean, whether the job will start by itself, and what to do if not.

The reasons are those of `job_reason_string` in Slurm's source (versions 20.02 to 24.11) and the texts that slurmctld
writes instead of one, such as "launch failed requeued held". A reason that is not here is shown as Slurm gives it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from slurm.submission.queue import Task


@dataclass(frozen=True, kw_only=True)
class Reason:
    """What a reason means. `held`: the job never starts by itself. `remedy` may name the job as {job}."""

    meaning: str
    remedy: str = ""
    held: bool = False


def _waits(meaning: str, remedy: str = "") -> Reason:
    return Reason(meaning=meaning, remedy=remedy)


def _held(meaning: str, remedy: str) -> Reason:
    return Reason(meaning=meaning, remedy=remedy, held=True)


RELEASE = "`scontrol release {job}`"
EXCLUDE = f"{RELEASE}; if it happens again, add the node to `exclude` in the cluster file"
RESUBMIT = "change the cluster file, then `cemiface cancel` and run again"
ASK = "ask the site's administrators"
WHILE_FULL = "if no other job of yours runs, the job asks for more than the limit: lower it in the cluster file"

JOB_TOO_LARGE = _held("the job asks for more than one job may have", f"ask for less: {RESUBMIT}")
PARTITION = "the partition does not allow this job: its time, nodes, account or QOS"
BUDGET = _held(
    "the time granted to the account or QOS is used up", f"{ASK} for more, or use another `account`: {RESUBMIT}"
)

REASONS = {
    # Normal.
    "Priority": _waits("jobs of higher priority come first"),
    "Resources": _waits("waits for free nodes"),
    "Dependency": _waits("waits for an earlier job"),
    "BeginTime": _waits("may start again shortly"),
    "JobArrayTaskLimit": _waits("as many ranks are running as array.parallel allows"),
    "Cleaning": _waits("its last attempt is being cleaned up"),
    "Prolog": _waits("its nodes are being prepared"),
    "SchedDefer": _waits("the scheduler is busy"),
    "BurstBufferResources": _waits("waits for space in the burst buffer"),
    "BurstBufferStageIn": _waits("its files are copied to the burst buffer"),
    "Licenses": _waits("waits for licenses that other jobs use"),
    "Reservation": _waits("waits for its reservation to begin", "`scontrol show reservation` has the times"),
    # It starts once somebody else does something.
    "PartitionDown": _waits("the partition starts no jobs now, e.g. for maintenance", "`sinfo` says when it is up"),
    "PartitionInactive": _waits("the partition is switched off", f"`sinfo`; if it stays so: {RESUBMIT}"),
    "ReqNodeNotAvail": _waits(
        "nodes that it needs are down, drained or reserved, e.g. for maintenance",
        "see `sinfo -R` and `scontrol show reservation`; shorter `minutes` may end before a reservation begins",
    ),
    "Nodes required for job are DOWN": _waits(
        "nodes that it needs are down, drained or reserved", "`sinfo -R`; other nodes: change `constraint` or `exclude`"
    ),
    "NodeDown": _waits("a node that it needs is down", "`sinfo -R` has the reason"),
    "FrontEndDown": _waits("no front end node is up", ASK),
    "QOSUsageThreshold": _waits("the account used more than its share lately", "it starts when the usage has decayed"),
    # It never starts by itself.
    "JobHeldUser": _held("held by you", RELEASE),
    "JobHeldAdmin": _held("held by an administrator", f"{ASK}; only they can release job {{job}}"),
    "JobHoldMaxRequeue": _held("held after too many restarts", f"see `cemiface why`; then {RELEASE}"),
    "job requeued in held state": _held("requeued and held", RELEASE),
    "launch failed requeued held": _held("Slurm could not start it on its node and holds it", EXCLUDE),
    "user env retrieval failed requeued held": _held("its node could not set up your environment", EXCLUDE),
    "BadConstraints": _held("no node has what it asks for", f"check `constraint`, gpus, cpus, memory_gb: {RESUBMIT}"),
    "PartitionConfig": _held(PARTITION, f"see `scontrol show partition`; {RESUBMIT}"),
    "PartitionNodeLimit": _held("it asks for more nodes than the partition allows", f"fewer `nodes`: {RESUBMIT}"),
    "PartitionTimeLimit": _held("it asks for more time than the partition allows", f"fewer `minutes`: {RESUBMIT}"),
    "MaxMemPerLimit": _held("it asks for more memory than the partition allows", f"lower `memory_gb`: {RESUBMIT}"),
    "InvalidAccount": _held("the account does not exist or is not yours", f"set `account`: {RESUBMIT}"),
    "InvalidQOS": _held("the QOS does not exist or is not yours", f"set `qos`: {RESUBMIT}"),
    "AccountNotAllowed": _held("the partition does not take this account", f"set `account` or `partition`: {RESUBMIT}"),
    "QOSNotAllowed": _held("the partition does not take this QOS", f"set `qos` or `partition`: {RESUBMIT}"),
    "DependencyNeverSatisfied": _held("an earlier job failed", "see `cemiface why`; then run again"),
    "DeadLine": _held("its deadline cannot be met any more", RESUBMIT),
    "ReservationDeleted": _held("its reservation was deleted", RELEASE),
    # As older versions name families of limits.
    "AssociationJobLimit": _waits("as many jobs run as your account allows", WHILE_FULL),
    "AssociationResourceLimit": _waits("your account uses as much as it may", WHILE_FULL),
    "AssociationTimeLimit": BUDGET,
    "QOSJobLimit": _waits("as many jobs run as the QOS allows", WHILE_FULL),
    "QOSResourceLimit": _waits("jobs of the QOS use as much as they may", WHILE_FULL),
    "QOSTimeLimit": BUDGET,
    "AccountingPolicy": _waits("a limit of your account is reached", WHILE_FULL),
}

# Limits have a reason for every kind of resource, e.g. AssocGrpCpuLimit, QOSMaxGRESPerUser. The first match counts.
FAMILIES: tuple[tuple[str, Reason], ...] = (
    (r".*\bheld\b.*", _held("Slurm holds it", RELEASE)),
    (r"(QOS|Assoc)Min\w+", _held("the job asks for less than the QOS demands", f"ask for more: {RESUBMIT}")),
    (r"(QOS|Assoc)Max\w*(PerJob|PerNode)\w*", JOB_TOO_LARGE),
    (
        r"(QOS|Assoc)Grp\w*Run\w*Min\w*",
        _waits("running jobs of the account or QOS may use all time it has", WHILE_FULL),
    ),
    (r"(QOS|Assoc)Grp(\w*Minutes|Wall)\w*", BUDGET),
    (r"AssocGrp\w+", _waits("your account uses as much as it may at once", WHILE_FULL)),
    (r"QOSGrp\w+", _waits("all jobs of the QOS together use as much as they may at once", WHILE_FULL)),
    (r"(QOS|Assoc)?Max\w+", _waits("you use as much as one user or account may at once", WHILE_FULL)),
    (r"(QOS|Assoc)\w+", _waits("a limit of your account or QOS is reached", WHILE_FULL)),
)

# States of a waiting job that say by themselves that it is held.
STATES = {
    "REQUEUE_HOLD": _held("requeued and held", RELEASE),
    "SPECIAL_EXIT": _held("requeued and held after a special exit", RELEASE),
    "RESV_DEL_HOLD": _held("held, as its reservation was deleted", RELEASE),
}


def reason_of(task: Task) -> Reason | None:
    """What the reason of a waiting task means; None if it is unknown."""
    name = _plain(task.reason)
    found = REASONS.get(name) or next((reason for family, reason in FAMILIES if re.fullmatch(family, name)), None)
    if (found is None or not found.held) and task.state in STATES:
        return STATES[task.state]
    return found


def is_held(task: Task) -> bool:
    """Whether a task waits and will never start by itself."""
    reason = reason_of(task) if task.pending else None
    return reason is not None and reason.held


def why_queued(task: Task) -> str:
    """Why a task waits, what to do if that is needed, and how often it was restarted."""
    text = _described(task, job=task.name)
    return f"restarted {task.restarts} x, {text}" if task.restarts else text


def held_together(tasks: Sequence[Task]) -> Iterator[str]:
    """Held tasks in a line per reason, with one command for all tasks of the reason."""
    groups: dict[tuple[str, str], list[Task]] = {}
    for task in tasks:
        groups.setdefault((task.reason, task.state), []).append(task)
    for group in groups.values():
        # Several elements of an array are named by the array's id, which stands for all that wait.
        names = {task.job: task.name for task in group}
        of_job = [name if sum(task.job == job for task in group) == 1 else job for job, name in names.items()]
        yield _described(group[0], job=" ".join(of_job))


def _described(task: Task, *, job: str) -> str:
    reason, shown = reason_of(task), task.reason or task.state
    if reason is None:
        return shown
    return f"{shown}: {reason.meaning}" + (f"; {reason.remedy.format(job=job)}" if reason.remedy else "")


def _plain(reason: str) -> str:
    """The reason without details: "ReqNodeNotAvail, UnavailableNodes:c1" is ReqNodeNotAvail."""
    return reason.strip("() ").partition(",")[0].replace("_", " ").strip()
