"""What Slurm's reasons for waiting mean: which jobs never start by themselves, and what to do."""

from __future__ import annotations

import pytest

from jobs.watch.pending_reasons import REASONS, STATES, held_together, is_held, why_queued
from slurm.submission.queue import Task


def _task(reason: str, *, index: int | None = 7, job: str = "13", state: str = "PENDING") -> Task:
    return Task(job=job, index=index, state=state, reason=reason)


@pytest.mark.parametrize(
    "reason",
    [
        *("JobHeldUser", "JobHeldAdmin", "JobHoldMaxRequeue", "launch failed requeued held"),
        *("launch_failed_requeued_held", "(launch failed requeued held)", "job requeued in held state"),
        *("user env retrieval failed requeued held", "held by the site: see ticket 12"),
        *("PartitionConfig", "PartitionNodeLimit", "PartitionTimeLimit", "BadConstraints", "MaxMemPerLimit"),
        *("InvalidAccount", "InvalidQOS", "AccountNotAllowed", "QOSNotAllowed", "DependencyNeverSatisfied"),
        *("QOSMaxCpuPerJobLimit", "AssocMaxNodePerJobLimit", "QOSMaxWallDurationPerJobLimit", "QOSMaxMemoryPerJob"),
        *("QOSMaxGRESPerNode", "QOSMinGRES", "QOSMinCpuNotSatisfied", "AssocMaxCpuMinutesPerJobLimit"),
        *("AssocGrpCPUMinutesLimit", "AssocGrpBillingMinutes", "QOSGrpGRESMinutes", "QOSGrpWallLimit"),
    ],
)
def test_a_job_that_never_starts_by_itself_is_held_and_says_what_to_do(reason: str) -> None:
    assert is_held(_task(reason))
    _, _, meaning = why_queued(_task(reason)).partition(reason.split(",")[0])
    assert "; " in meaning  # meaning and remedy


@pytest.mark.parametrize(
    ("reason", "part"),
    [
        ("Priority", "jobs of higher priority come first"),
        ("Resources", "waits for free nodes"),
        ("BeginTime", "may start again shortly"),
        ("JobArrayTaskLimit", "as many ranks are running as array.parallel allows"),
        ("Licenses", "waits for licenses"),
        ("Reservation", "waits for its reservation"),
        ("PartitionDown", "maintenance"),
        ("ReqNodeNotAvail, UnavailableNodes:c[1-2]", "down, drained or reserved"),
        ("Nodes_required_for_job_are_DOWN,_DRAINED_or_reserved", "`sinfo -R`"),
        ("AssocGrpCpuLimit", "your account uses as much as it may at once"),
        ("AssocGrpGRES", "your account uses as much as it may at once"),
        ("AssocGrpCPURunMinutesLimit", "may use all time it has"),
        ("AssocMaxJobsLimit", "as one user or account may at once"),
        ("QOSGrpNodeLimit", "all jobs of the QOS together"),
        ("QOSMaxJobsPerUserLimit", "as one user or account may at once"),
        ("MaxGRESPerAccount", "as one user or account may at once"),
    ],
)
def test_a_job_that_will_start_is_queued_with_the_meaning_of_its_reason(reason: str, part: str) -> None:
    assert not is_held(_task(reason))
    assert reason in why_queued(_task(reason))
    assert part in why_queued(_task(reason))


@pytest.mark.parametrize("reason", ["ReasonOfTomorrow", "QoSomething, with details", ""])
def test_unknown_reasons_are_shown_as_they_are(reason: str) -> None:
    assert why_queued(_task(reason)) == (reason or "PENDING")
    assert not is_held(_task(reason))


def test_a_state_that_says_held_counts_whatever_the_reason() -> None:
    for state in STATES:
        assert is_held(_task("Priority", state=state))
    assert not is_held(_task("JobHeldUser", state="RUNNING"))  # a reason of its past


def test_every_command_names_the_job() -> None:
    for name in REASONS:
        text = why_queued(_task(name))
        assert "{" not in text
        assert "scontrol release" not in text or "scontrol release 13_7`" in text


def test_tasks_held_for_one_reason_are_one_line_with_one_command() -> None:
    tasks = [_task("JobHeldUser", index=index) for index in range(3)]
    tasks += [_task("JobHeldUser", job="14", index=2), _task("JobHeldUser", job="15", index=None)]
    assert list(held_together(tasks)) == ["JobHeldUser: held by you; `scontrol release 13 14_2 15`"]
