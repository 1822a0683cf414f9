"""The jobs of a run in Slurm's queue: whose they are, which ranks they cover, and which of them can never run."""

from __future__ import annotations

import logging
import re
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Set
from dataclasses import dataclass, field

from jobs.frame.run import Run
from slurm.errors import RunError
from slurm.ranks.heartbeats import read_heartbeats
from slurm.submission.job_record import JobRecord
from slurm.submission.ownership import COMMENT, Ownership
from slurm.submission.queue import ENDING, Task, ask_queue, scancel

SECONDS_TO_END = 45.0  # for tasks that are ending: longer than Slurm's usual KillWait

AFTEROK = re.compile(r"afterok:(?P<job>[0-9]+)(?:_(?P<task>[0-9]+|\*))?")

log = logging.getLogger(__name__)


@dataclass(kw_only=True)
class Living:
    """The tasks of a run that Slurm knows, by stage, and the records of their jobs."""

    tasks: Mapping[str, list[Task]] = field(default_factory=dict)
    records: Mapping[str, JobRecord] = field(default_factory=dict)
    succeeded: Set[str] = frozenset()  # tasks of which a rank said that it is done
    dropped: dict[str, list[str]] = field(default_factory=dict)  # jobs by stage, canceled by `drop`

    @property
    def ids(self) -> list[str]:
        """The jobs that wait or run."""
        return sorted({task.job for stage in self.tasks for task in self.alive(stage)}, key=int)

    def alive(self, stage: str) -> list[Task]:
        """The stage's tasks that wait or run."""
        gone = self.dropped.get(stage, ())
        return [task for task in self.tasks.get(stage, ()) if task.alive and task.job not in gone]

    def leaving(self, stage: str) -> list[str]:
        """The stage's tasks that still have nodes but end, as Slurm's dependencies name them."""
        ending = [task.name for task in self.tasks.get(stage, ()) if task.state == ENDING]
        return [*ending, *self.dropped.get(stage, ())]

    def ranks(self, stage: str) -> set[int]:
        """The ranks of the stage whose tasks wait or run; the canary's is none of them."""
        record = self.records.get(stage)
        alive = {(task.job, task.index): task for task in self.alive(stage)}
        arrays = [job for job in record.jobs if job.kind != "canary"] if record else []
        return {rank for job in arrays for rank in job.tasks_by_rank(alive)}

    def canary(self, stage: str) -> list[str]:
        """The stage's canary, if it waits or runs."""
        record = self.records.get(stage)
        canaries = {job.job for job in record.jobs if job.kind == "canary"} if record else set()
        return sorted(canaries & {task.job for task in self.alive(stage)})

    def terms(self, stage: str) -> list[str]:
        """What other stages wait for: whole jobs, or the living tasks of a job of which others are gone."""
        found: list[str] = []
        for job in sorted({task.job for task in self.alive(stage)}, key=int):
            tasks = [task.name for task in self.alive(stage) if task.job == job]
            found += tasks if job in self.broken else [job]
        return found

    @property
    def broken(self) -> set[str]:
        """Jobs that will never have succeeded as a whole, though tasks of theirs may.

        A task that was canceled before it started leaves no trace in the queue, and yet counts as failed. One that
        succeeded is forgotten after some minutes; its ranks said that they are done.
        """
        fine: Counter[str] = Counter()
        for task in (task for tasks in self.tasks.values() for task in tasks):
            fine[task.job] += task.alive or task.state in {ENDING, "COMPLETED"}
        known = {(task.job, task.index) for tasks in self.tasks.values() for task in tasks}
        jobs = [job for record in self.records.values() for job in record.jobs]
        for job in jobs:
            names = {(job.job, index): f"{job.job}_{index}" for index in range(job.tasks)}
            fine[job.job] += sum(key not in known and name in self.succeeded for key, name in names.items())
        wanted = {job.job: job.tasks for job in jobs}
        return {job for job in fine if fine[job] < wanted.get(job, 1)}

    def drop(self, stage: str, *, again: bool) -> None:
        """Cancel jobs of the stage that are on no record, or wait for what will not come.

        With `again`, jobs that have not started are canceled, too: a stage before them is submitted again.

        Raises:
            RunError: scancel failed.
        """
        record = self.records.get(stage)
        known = {job.job for job in record.jobs} if record else set()
        tasks = self.alive(stage)
        started = {task.job for task in tasks if task.running}
        useless = {task.job for task in tasks if task.job not in known}
        useless |= {task.job for task in tasks if task.pending and self._waits_in_vain(task)}
        useless |= {task.job for task in tasks if again and task.job not in started}
        if not useless:
            return
        jobs = sorted(useless, key=int)
        problem = scancel(jobs)
        if problem is not None:
            raise RunError(f"{stage}: jobs {', '.join(jobs)} have to be submitted again, but {problem}; run again")
        log.info("%s: canceled job %s, which could not have done the work", stage, " ".join(jobs))
        self.dropped[stage] = jobs

    def _waits_in_vain(self, task: Task) -> bool:
        """Whether a task waits for the success of one that failed or was canceled."""
        if task.reason == "DependencyNeverSatisfied":
            return True
        needed = {(found["job"], found["task"]) for found in AFTEROK.finditer(_spread(task.dependency))}
        broken = self.broken
        return any(
            one.job in broken and ((one.job, "*") in needed or (one.job, None) in needed or self._failed(one, needed))
            for tasks in self.tasks.values()
            for one in tasks
        )

    def _failed(self, task: Task, needed: set[tuple[str, str | None]]) -> bool:
        bad = not (task.alive or task.state in {ENDING, "COMPLETED"})
        return bad and (task.job, str(task.index)) in needed


def _spread(dependency: str) -> str:
    """A dependency with a word before each job: `afterok:7:8` as `afterok:7,afterok:8`."""
    parts: list[str] = []
    for part in dependency.split(","):
        word, *jobs = re.sub(r"\([^)]*\)", "", part).split(":")
        parts += [f"{word}:{job}" for job in jobs]
    return ",".join(parts)


def owner_of(run: Run) -> Ownership:
    """The ownership of the run's folder."""
    return Ownership.of(run.folder, [run.stage_folder(stage.name) for stage in run.chain])


def ask_living(run: Run) -> Living:
    """The run's jobs in the queue.

    Raises:
        RunError: Slurm gave no answer, or jobs are in the queue beside which a launch could do harm: those of a run
            that was moved, or of another run that works in this folder.
    """
    owner = owner_of(run)
    answer = ask_queue()
    if answer.no_answer is not None:
        raise RunError(f"the queue cannot be read: {answer.no_answer}; submit from where squeue works")
    known = list(answer.tasks.values())
    _refuse_beside(run, [task for task in known if task.alive], owner=owner)
    tasks: dict[str, list[Task]] = {}
    for task in known:
        stage = owner.stage_of(task)
        if stage is not None:
            tasks.setdefault(stage, []).append(task)
    folders = [run.stage_folder(stage.name) for stage in run.chain]
    heartbeats = [heartbeat for folder in folders for heartbeat in read_heartbeats(folder)]
    succeeded = {heartbeat.worker.job or "" for heartbeat in heartbeats if heartbeat.state == "done"}
    return Living(tasks=tasks, records=owner.records(folders), succeeded=succeeded)


def ask_living_once_ended(run: Run) -> Living:
    """As `ask_living`, after tasks that are ending have left, for at most `SECONDS_TO_END`."""
    deadline = time.monotonic() + SECONDS_TO_END
    for living in _asked_again(run):
        ending = [task.name for tasks in living.tasks.values() for task in tasks if task.state == ENDING]
        if not ending or time.monotonic() >= deadline:
            break
        log.info("%s: waiting for tasks that are ending: %s", run.folder.root, " ".join(ending))
    return living


def _asked_again(run: Run) -> Iterator[Living]:
    while True:
        yield ask_living(run)
        time.sleep(2.0)


def _refuse_beside(run: Run, tasks: list[Task], *, owner: Ownership) -> None:
    identity, root = owner.identity, run.folder.root
    if identity.place in {"moved", "unclear"}:
        ids = sorted({task.job for task in tasks if _run_of(task) == identity.id or owner.stage_of(task)}, key=int)
        if ids:
            raise RunError(
                f"{root}: was moved from {identity.made_at}, where its jobs in the queue ({' '.join(ids)}) work; "
                f"move it back, or end them with `scancel {' '.join(ids)}` and run again"
            )
    ids = sorted({task.job for task in tasks if owner.is_intruder(task)}, key=int)
    if ids:
        raise RunError(
            f"{root}: jobs of another run work in this folder ({' '.join(ids)}), as after it was removed or replaced; "
            f"end them with `scancel {' '.join(ids)}` and run again"
        )


def _run_of(task: Task) -> str | None:
    found = COMMENT.search(task.comment)
    return found["run"] if found else None
