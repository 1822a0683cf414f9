"""One stage as local processes: start its ranks, watch their heartbeats, start stopped ranks again."""

from __future__ import annotations

import logging
import os
import signal
import time
from collections.abc import Sequence

from jobs.frame.run import Run
from jobs.frame.stage import Stage
from jobs.frame.unit import Unit
from jobs.launch.code import ENTRY, START
from jobs.launch.interrupts import TerminalClosed
from jobs.launch.local_gpus import local_gpus
from jobs.launch.stage_work import write_plan
from jobs.safe_start import safe_environment
from jobs.watch.progress import StageProgress
from slurm.checkpoints import newest_checkpoint
from slurm.errors import RunError
from slurm.gpus import only
from slurm.ranks.heartbeat_writer import MAX_ATTEMPTS_WITHOUT_PROGRESS
from slurm.ranks.heartbeats import Heartbeat, read_heartbeat, read_heartbeats
from slurm.ranks.stop import STOPPED, interrupts_held
from slurm.submission.local_job import LocalJob, start_local
from slurm.submission.payload import Payload

SECONDS_TO_SAVE = 120.0  # for ranks that were asked to stop

SECONDS_AFTER_LOSS = 10.0  # for the other ranks of a process group, which would wait for the lost one in vain

SECONDS_TO_END = 10.0  # from SIGKILL to the end of a process

log = logging.getLogger(__name__)


class LocalStage:
    """The ranks of one stage on this machine; at most `parallel` run at once.

    The ranks of a training are one job: if one of them dies, the others are ended and all start again, as Slurm does
    with `--kill-on-bad-exit`.
    """

    def __init__(self, run: Run, stage: Stage[Unit]) -> None:
        self.run, self.stage = run, stage
        self.folder = run.stage_folder(stage.name)
        self.undone = [number for number, state in enumerate(run.ledger.unit_states(stage)) if state is not None]
        array = run.cluster.of_array(stage.name)
        self.ranks = 1 if stage.distributed else max(1, min(array.world(), len(self.undone)))
        self.parallel = 1 if stage.distributed else min(array.parallel or self.ranks, self.ranks)
        self.processes = run.cluster.of_train(stage.name).world() if stage.distributed else 1
        self.gpus = local_gpus(run, stage)  # those that no rank is using; empty where ranks use the CPU
        if self.gpus and not stage.distributed:
            self.parallel = min(self.parallel, len(self.gpus))
        self.gpus_of: dict[int, list[str]] = {}  # by job
        self.jobs: dict[int, LocalJob] = {}
        self.stop_signal = signal.SIGTERM  # what ranks get; the one that the launcher got is their reason
        self.lost_in_a_row = 0  # times that a process group was lost before it saved anything
        self.saved: str | None = None  # the newest checkpoint when the group was started last

    def work(self) -> None:
        """Run every rank to its end.

        Raises:
            RunError: a rank failed; the others were stopped.
            KeyboardInterrupt: once the ranks have saved their work.
        """
        write_plan(self.run, self.stage, undone=self.undone)
        queue = list(range(self.ranks))
        try:
            with StageProgress(self.run, self.stage) as progress:
                while queue or self.jobs:
                    while queue and len(self.jobs) < self.parallel:
                        self._start(queue.pop(0))
                    time.sleep(0.1)
                    progress.update(read_heartbeats(self.folder))
                    queue.extend(self._take_ended())
        except KeyboardInterrupt as reason:
            if isinstance(reason, TerminalClosed):
                self.stop_signal = signal.SIGHUP
            log.info("%s: stopping; the ranks save their work; rerun the same command to resume", self.stage.name)
            raise
        finally:
            self._stop_all()

    def _start(self, rank: int) -> None:
        payload = Payload(
            entry=ENTRY,
            run=str(self.run.folder.root),
            stage=self.stage.name,
            rank=rank,
            ranks=self.ranks,
            launcher=os.getpid(),
        )
        self.gpus_of[rank], self.gpus = self.gpus[: self.processes], self.gpus[self.processes :]
        gpus: Sequence[str | None] = self.gpus_of[rank] or [None] * self.processes
        # Between start and record, Ctrl-C would leave a rank that is never asked to stop.
        with interrupts_held(), safe_environment():
            self.jobs[rank] = start_local(
                payload, stage=self.folder, start=START, environments=[only(gpu) for gpu in gpus]
            )

    def _take_ended(self) -> list[int]:
        """Take the ended jobs out of `jobs`; returns those that must start again.

        Raises:
            RunError: a rank failed, or was lost too often.
        """
        again = []
        for rank, job in list(self.jobs.items()):
            codes = job.codes()
            if any(codes.values()) and not job.ended():  # a part of a group: the others would wait for it
                self._end(job, seconds=SECONDS_TO_SAVE if set(codes.values()) <= {0, STOPPED} else SECONDS_AFTER_LOSS)
            if not job.ended():
                continue
            self.gpus += self.gpus_of.pop(rank)
            if self._must_start_again(rank, job):
                again.append(rank)
            del self.jobs[rank]
        return again

    def _must_start_again(self, first: int, job: LocalJob) -> bool:
        """Whether an ended job has work left; `first` is the rank of its first process.

        A rank that failed has recorded why, and would fail again. One that was killed may not be killed again.

        Raises:
            RunError: see `_take_ended`.
        """
        lost = job.lost()
        failed = [number for number, code in job.codes().items() if code > 0 and code != STOPPED]
        if signal.SIGKILL not in lost.values() and failed:  # a crash (SIGABRT) may come from another rank's failure
            raise RunError(self._describe_failure(first, job, failed))
        if lost:
            number = min(lost, key=lambda number: (lost[number] != signal.SIGKILL, number))  # others may crash after it
            how = f"exited without a reason ({_ended_by(lost[number])}) [output: {job.output(number)}]"
            reason = f"{self._name(first + number)}: {how}"
            if not self._may_lose_another():
                raise RunError(reason)
            log.warning("%s; all ranks start again from the last checkpoint", reason)
            return True
        return any(job.codes().values())  # stopped: it gives up by itself if it makes no progress

    def _may_lose_another(self) -> bool:
        """Count a lost process group; whether it may start again. A rank of an array is alone and may not."""
        saved = newest_checkpoint(self.folder)
        self.lost_in_a_row = 1 if saved != self.saved else self.lost_in_a_row + 1
        self.saved = saved
        return self.stage.distributed and self.lost_in_a_row < MAX_ATTEMPTS_WITHOUT_PROGRESS["lost"]

    def _describe_failure(self, first: int, job: LocalJob, failed: list[int]) -> str:
        """Why the job failed: the first of its ranks to record a reason, else what its process has printed."""
        heartbeats = [read_heartbeat(self.folder, first + number) for number in failed]
        recorded = [found for found in heartbeats if found is not None and found.state == "failed"]
        if recorded:
            earliest = min(recorded, key=_time)
            return f"{self._name(earliest.rank)}: {earliest.reason or ''} [log: {self.folder.log(earliest.rank)}]"
        return f"{self._name(first + failed[0])}: exited without a reason [output: {job.output(failed[0])}]"

    def _name(self, rank: int) -> str:
        return f"{self.stage.name} rank {rank}"

    def _end(self, *jobs: LocalJob, seconds: float) -> None:
        """Ask the ranks to save and leave; those that have not left after `seconds` are killed."""
        for job in jobs:
            job.ask_to_stop(self.stop_signal)
        _wait_for(jobs, seconds=seconds)
        for job in jobs:
            job.kill()
        _wait_for(jobs, seconds=SECONDS_TO_END)

    def _stop_all(self) -> None:
        """End whatever is still running."""
        self._end(*self.jobs.values(), seconds=SECONDS_TO_SAVE)


def _wait_for(jobs: Sequence[LocalJob], *, seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while not all(job.ended() for job in jobs) and time.monotonic() < deadline:
        time.sleep(0.1)


def _ended_by(number: int) -> str:
    """The signal that ended a process, in words."""
    if number == signal.SIGKILL:
        return "killed, or out of memory?"
    return f"ended by signal {number}"


def _time(heartbeat: Heartbeat) -> float:
    return heartbeat.time
