"""Looks at a run, once or repeatedly: reads its folder, asks Slurm, and finds the state of every rank."""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import replace

from jobs.frame.errors import USER_ERRORS
from jobs.frame.run import Run
from jobs.frame.stage import Stage
from jobs.frame.unit import Unit
from jobs.watch.rank_states import RankFacts, RankState, state_of
from jobs.watch.status import RunStatus, StageStatus, finished_stage, unfinished_stage
from jobs.watch.units import read_units
from slurm.disk import exists
from slurm.processes import is_alive, started_at
from slurm.ranks.heartbeats import Heartbeat, read_heartbeats
from slurm.ranks.launcher import running_launcher
from slurm.ranks.worker import this_host
from slurm.submission.job_record import JobRecord
from slurm.submission.ownership import Ownership
from slurm.submission.queue import Answer, Task, ask_accounting, ask_queue

SECONDS_FOR_SLURM = 5.0  # for each of its two answers: people wait for them

CLOCK_TOLERANCE = 2.0  # seconds; the start time of a process is rounded


class Observer:
    """Polls a run. Keeps, between polls, when each heartbeat last changed (local clock) and Slurm's last answer."""

    def __init__(self, run: Run, *, slurm_poll_seconds: float = 0.0) -> None:
        self.run, self._pause = run, slurm_poll_seconds
        self._queue = Answer()
        self._records: dict[str, JobRecord] = {}
        self._accounts: Answer | None = None  # None: not asked
        self._asked = float("-inf")
        # By stage and rank: the time in the last heartbeat, and when it was first seen.
        self._changes: dict[tuple[str, int], tuple[float, float]] = {}
        self._host = this_host()
        self._owner = Ownership.of(run.folder)

    def poll(self) -> RunStatus:
        """The current status. Asks squeue if stages were submitted, and sacct for jobs that squeue has forgotten."""
        self.run.ledger.forget_plans()
        folders = [self.run.stage_folder(stage.name) for stage in self.run.chain]
        self._owner = Ownership.of(self.run.folder, folders)
        self._records = self._owner.records(folders)
        submitted = bool(self._records)
        if submitted and time.monotonic() - self._asked >= self._pause:
            answer = ask_queue(seconds=SECONDS_FOR_SLURM)
            ours = {key: task for key, task in answer.tasks.items() if self._owner.stage_of(task)}
            self._queue, self._accounts, self._asked = replace(answer, tasks=ours), None, time.monotonic()
        launcher = running_launcher(self.run.folder.lock)
        stages: dict[str, StageStatus] = {}
        for stage in self.run.chain:
            before = [stages[name] for name in stage.needs(self.run) if name in stages]
            stages[stage.name] = self._stage(stage, self._records.get(stage.name), before=before)
        no_answer = self._queue.no_answer if submitted else None
        no_accounts = self._accounts.no_answer if submitted and self._accounts else None
        jobless = _without_job(stages.values()) if submitted and no_answer is None and launcher is None else ()
        return RunStatus(
            stages=tuple(stages.values()),
            launcher=launcher,
            no_answer=no_answer,
            no_accounts=no_accounts,
            jobless=jobless,
        )

    def _stage(self, stage: Stage[Unit], record: JobRecord | None, *, before: list[StageStatus]) -> StageStatus:
        folder = self.run.stage_folder(stage.name)
        waits = [earlier.name for earlier in before if earlier.state != "done"]
        blocked = ", ".join(f"{earlier.name}, which is {earlier.state}" for earlier in before if earlier.troubled)
        try:
            if not exists(folder.plan):
                return StageStatus(name=stage.name, state="not started", reason=f"needs {blocked}" if blocked else "")
            units = read_units(self.run, stage)
            ranks = self._ranks(stage, record, finished=units.left is None)
        except USER_ERRORS as error:  # a launch would report the same
            return StageStatus(name=stage.name, state="unknown", reason=str(error))
        summary = self.run.ledger.summary(stage.name) if units.left is None else None
        if summary is not None:
            return finished_stage(stage, units, ranks, summary=summary, waits=waits)
        return unfinished_stage(self.run, stage, units, ranks, waits=waits)

    def _ranks(self, stage: Stage[Unit], record: JobRecord | None, *, finished: bool) -> tuple[RankState, ...]:
        found = read_heartbeats(self.run.stage_folder(stage.name))
        if not self._owner.identity.owns_jobs:  # of the run of which this folder is a copy
            found = [heartbeat for heartbeat in found if heartbeat.state != "running"]
        heartbeats = {heartbeat.rank: heartbeat for heartbeat in found}
        submitted = record.ranks if record else 0
        tasks = self._tasks(stage, record, heartbeats.values(), finished=finished) if record else {}
        states = []
        for rank in sorted({*heartbeats, *range(submitted)}):
            heartbeat = heartbeats.get(rank)
            facts = RankFacts(
                heartbeat=heartbeat,
                task=tasks.get(rank),
                submitted=rank < submitted,
                no_answer=self._queue.no_answer,
                alive=_is_running(heartbeat) if heartbeat and heartbeat.worker.host == self._host else None,
                silent=self._seconds_since_change(stage.name, heartbeat) if heartbeat else 0.0,
                distributed=stage.distributed,
            )
            states.append(state_of(rank, facts))
        return tuple(states)

    def _tasks(
        self, stage: Stage[Unit], record: JobRecord, heartbeats: Iterable[Heartbeat], *, finished: bool
    ) -> dict[int, Task]:
        """The task of each rank. squeue forgets jobs some minutes after their end; the accounting does not."""
        tasks = record.tasks_by_rank(self._queue.tasks)
        done = {heartbeat.rank for heartbeat in heartbeats if heartbeat.state == "done"}
        if finished or not set(range(record.ranks)) - tasks.keys() - done:
            return tasks
        answer = self._accounted().tasks
        known = {key: task for key, task in answer.items() if self._owner.may_be(task, stage=stage.name)}
        if self._queue.no_answer is None:  # jobs that squeue does not list have ended, even if the accounting lags
            known = {key: task for key, task in known.items() if not (task.pending or task.running)}
        return record.tasks_by_rank(known) | tasks

    def _accounted(self) -> Answer:
        """What the accounting knows about the jobs of all stages: it is asked once, as each answer may take long."""
        if self._accounts is None:
            jobs = [job.job for record in self._records.values() for job in record.jobs]
            since = min(record.submitted for record in self._records.values())
            self._accounts = ask_accounting(jobs, since=since, seconds=SECONDS_FOR_SLURM)
        return self._accounts

    def _seconds_since_change(self, stage: str, heartbeat: Heartbeat) -> float:
        """Seconds since the last heartbeat: by its own clock at the first look, by ours once it was seen to change."""
        key, now = (stage, heartbeat.rank), time.monotonic()
        if key not in self._changes:
            self._changes[key] = (heartbeat.time, now - max(0.0, time.time() - heartbeat.time))
        elif self._changes[key][0] != heartbeat.time:
            self._changes[key] = (heartbeat.time, now)
        return now - self._changes[key][1]


def _without_job(stages: Iterable[StageStatus]) -> tuple[str, ...]:
    """The stages that have work for which no job is in the queue, beside others that have theirs."""
    unfinished = [stage for stage in stages if stage.state != "done"]
    waiting = {stage.name for stage in unfinished if stage.in_state("running", "queued")}
    partly = {stage.name for stage in unfinished if stage.in_state("stopped", "failed", "lost", "unknown")}
    names = (stage.name for stage in unfinished if stage.name not in waiting or stage.name in partly)
    return tuple(names) if waiting else ()


def _is_running(heartbeat: Heartbeat) -> bool:
    """Whether the rank's process, on this host, exists. A process that began later only got the same process id."""
    pid = heartbeat.worker.pid
    began = started_at(pid) if is_alive(pid) else None
    return began is not None and began <= heartbeat.time + CLOCK_TOLERANCE
