"""Looks at a run, once or again and again: reads its folder, asks Slurm, and judges every rank."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from jobs.frame.errors import USER_ERRORS
from jobs.frame.run import Run
from jobs.frame.stage import Stage
from jobs.watch.rank_states import Evidence, RankState, judge
from jobs.watch.status import RunStatus, StageStatus, finished_stage, unfinished_stage
from jobs.watch.units import read_units
from slurm.files import is_alive, read_json, started_at
from slurm.heartbeats import read_beats, this_worker
from slurm.launcher import launcher_at_work
from slurm.queue import Answer, Task, ask_accounting, ask_queue
from slurm.submission import Submission, read_submission

NEEDED = {"rank", "state", "time", "host", "pid"}  # of a heartbeat

SECONDS_OF_ROUNDING = 2.0  # of the time at which a process began


class Observer:
    """Keeps between two looks when each heartbeat was seen to change, by its own clock, and Slurm's last answer."""

    def __init__(self, run: Run, *, seconds_between_questions: float = 0.0) -> None:
        self.run, self._pause = run, seconds_between_questions
        self._queue = Answer()
        self._accounts: dict[str, Answer] = {}
        self._asked = float("-inf")
        self._heard: dict[tuple[str, int], tuple[float, float]] = {}  # what a beat said, and when that was new
        self._host = this_worker()["host"]

    def look(self) -> RunStatus:
        """The present state. Asks squeue, where there is a submission, and sacct where squeue has forgotten a job."""
        self.run.ledger.forget_plans()
        submissions = {stage.name: read_submission(self.run.stage_folder(stage.name)) for stage in self.run.chain}
        submitted = any(submissions.values())
        if submitted and time.monotonic() - self._asked >= self._pause:
            self._queue, self._asked = ask_queue(), time.monotonic()
            self._accounts.clear()
        launcher = launcher_at_work(self.run.folder.lock)
        stages: dict[str, StageStatus] = {}
        for stage in self.run.chain:
            before = [stages[name] for name in stage.needs(self.run) if name in stages]
            stages[stage.name] = self._stage(stage, submissions[stage.name], before=before)
        return RunStatus(
            stages=tuple(stages.values()), launcher=launcher, silence=self._queue.silence if submitted else None
        )

    def _stage(self, stage: Stage, submission: Submission | None, *, before: list[StageStatus]) -> StageStatus:
        folder = self.run.stage_folder(stage.name)
        waits = [earlier.name for earlier in before if earlier.state != "done"]
        blocked = ", ".join(f"{earlier.name}, which is {earlier.state}" for earlier in before if earlier.troubled)
        if not folder.plan.exists():
            return StageStatus(name=stage.name, state="not started", reason=f"needs {blocked}" if blocked else "")
        try:
            units = read_units(self.run, stage)
        except USER_ERRORS as error:  # what a launch would refuse
            return StageStatus(name=stage.name, state="unknown", reason=str(error))
        ranks = self._ranks(stage, submission, settled=units.left is None)
        if units.left is None:
            return finished_stage(stage, units, ranks, summary=read_json(folder.summary), waits=waits)
        return unfinished_stage(self.run, stage, units, ranks, waits=waits)

    def _ranks(self, stage: Stage, submission: Submission | None, *, settled: bool) -> tuple[RankState, ...]:
        beats = {beat["rank"]: beat for beat in read_beats(self.run.stage_folder(stage.name)) if beat.keys() >= NEEDED}
        submitted = submission.ranks if submission else 0
        tasks = self._tasks(stage, submission, beats, settled=settled) if submission else {}
        states = []
        for rank in sorted({*beats, *range(submitted)}):
            beat = beats.get(rank)
            evidence = Evidence(
                beat=beat,
                task=tasks.get(rank),
                submitted=rank < submitted,
                silence=self._queue.silence,
                alive=_lives(beat) if beat and beat["host"] == self._host else None,
                silent=self._silent(stage.name, beat) if beat else 0.0,
                distributed=stage.distributed,
            )
            states.append(judge(rank, evidence))
        return tuple(states)

    def _tasks(
        self, stage: Stage, submission: Submission, beats: Mapping[int, Any], *, settled: bool
    ) -> dict[int, Task]:
        """Slurm's word on the ranks. It forgets jobs some minutes after their end; the accounting does not."""
        tasks = submission.tasks(self._queue.tasks)
        told = {rank for rank, beat in beats.items() if beat["state"] == "done"}
        if settled or not set(range(submission.ranks)) - tasks.keys() - told:
            return tasks
        if stage.name not in self._accounts:
            jobs = [job.job for job in submission.jobs]
            self._accounts[stage.name] = ask_accounting(jobs, since=submission.submitted)
        known = self._accounts[stage.name].tasks
        if self._queue.silence is None:  # what squeue does not know is over, whatever the accounting missed
            known = {key: task for key, task in known.items() if not (task.pending or task.running)}
        return submission.tasks(known) | tasks

    def _silent(self, stage: str, beat: Mapping[str, Any]) -> float:
        """Seconds since the rank was heard: by its own clock at the first look, by ours once it was seen to change."""
        key, said, now = (stage, int(beat["rank"])), float(beat["time"]), time.monotonic()
        if key not in self._heard:
            self._heard[key] = (said, now - max(0.0, time.time() - said))
        elif self._heard[key][0] != said:
            self._heard[key] = (said, now)
        return now - self._heard[key][1]


def _lives(beat: Mapping[str, Any]) -> bool:
    """Whether the rank's process, of this machine, exists; one that began after its last word only has its pid."""
    pid = int(beat["pid"])
    began = started_at(pid) if is_alive(pid) else None
    return began is not None and began <= float(beat["time"]) + SECONDS_OF_ROUNDING
