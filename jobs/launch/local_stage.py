"""One stage as local processes: start its ranks, watch their heartbeats, start stopped ranks again."""

from __future__ import annotations

import logging
import os
import signal
import time
from collections.abc import Sequence
from contextlib import suppress

import submitit

from jobs.frame.run import Run
from jobs.frame.stage import Stage
from jobs.frame.unit import Unit
from jobs.launch.code import ENTRY, START
from jobs.launch.stage_work import write_plan
from jobs.safe_start import safe_environment
from jobs.watch.progress import StageProgress
from slurm.errors import RunError
from slurm.processes import is_alive
from slurm.ranks.heartbeats import Heartbeat, read_heartbeats
from slurm.ranks.stop import interrupts_held
from slurm.submission.payload import Payload
from slurm.submission.submit import start_local

SECONDS_TO_SAVE = 120.0  # for the ranks to save their work after Ctrl-C

SECONDS_AFTER_FAILURE = 10.0  # for the other ranks of a process group after one of them failed

log = logging.getLogger(__name__)


class LocalStage:
    """The ranks of one stage on this machine; at most `parallel` run at once."""

    def __init__(self, run: Run, stage: Stage[Unit]) -> None:
        self.run, self.stage = run, stage
        self.folder = run.stage_folder(stage.name)
        self.undone = [number for number, state in enumerate(run.ledger.unit_states(stage)) if state is not None]
        array = run.cluster.of_array(stage.name)
        self.ranks = 1 if stage.distributed else max(1, min(array.world(), len(self.undone)))
        self.parallel = 1 if stage.distributed else min(array.parallel or self.ranks, self.ranks)
        self.processes = run.cluster.of_train(stage.name).world() if stage.distributed else 1
        self.jobs: dict[int, submitit.Job[None]] = {}
        self.seconds_to_save = SECONDS_TO_SAVE

    def work(self) -> None:
        """Run every rank to its end.

        Raises:
            RunError: a rank failed; the others were stopped.
            KeyboardInterrupt: once the ranks have saved their work.
        """
        write_plan(self.run, self.stage, undone=self.undone)
        for path in self.folder.submitit_logs.glob("*.pkl"):  # named by process ids, which may be used again
            path.unlink()
        queue = list(range(self.ranks))
        try:
            with StageProgress(self.run, self.stage) as progress:
                while queue or self.jobs:
                    while queue and len(self.jobs) < self.parallel:
                        self._start(queue.pop(0))
                    time.sleep(0.1)
                    progress.update(read_heartbeats(self.folder))
                    queue.extend(self._take_ended())
                    self._stop_if_a_rank_failed()
        except KeyboardInterrupt:
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
        # Between start and record, Ctrl-C would leave a rank that is never asked to stop.
        with interrupts_held(), safe_environment():
            self.jobs[rank] = start_local(payload, stage=self.folder, ranks=self.processes, start=START)

    def _take_ended(self) -> list[int]:
        """Take the ended ranks out of `jobs`; returns those that must start again.

        Raises:
            RunError: a rank failed or exited without a record.
        """
        stopped = []
        for rank in [rank for rank, job in self.jobs.items() if job.done()]:
            job = self.jobs.pop(rank)
            heartbeats = [found for found in self._heartbeats() if self.stage.distributed or found.rank == rank]
            if heartbeats and all(heartbeat.state == "done" for heartbeat in heartbeats):
                continue
            if not _failed_ranks(heartbeats) and any(heartbeat.state == "stopped" for heartbeat in heartbeats):
                stopped.append(rank)  # it gives up by itself if it makes no progress
                continue
            raise RunError(self._describe_failure(job, rank, heartbeats))
        return stopped

    def _stop_if_a_rank_failed(self) -> None:
        """If one rank of a distributed stage failed, give up: the others would wait for it in a collective.

        Raises:
            RunError: a rank failed or exited without a record; the others get a short time to leave.
        """
        heartbeats = self._heartbeats() if self.stage.distributed else []
        for rank, job in self.jobs.items():
            if _failed_ranks(heartbeats):
                self.seconds_to_save = SECONDS_AFTER_FAILURE
                raise RunError(self._describe_failure(job, rank, heartbeats))

    def _describe_failure(self, job: submitit.Job[None], rank: int, heartbeats: Sequence[Heartbeat]) -> str:
        first = next(iter((*_failed_ranks(heartbeats), *heartbeats)), None)
        rank = first.rank if first else rank
        if first is not None and first.state != "running":
            return f"{self.stage.name} rank {rank}: {first.reason or ''} [log: {self.folder.log(rank)}]"
        output = job.task(rank if self.stage.distributed else 0).paths.stdout
        return f"{self.stage.name} rank {rank}: exited without a reason (killed, or out of memory?) [output: {output}]"

    def _stop_all(self) -> None:
        """Ask the running ranks to save and leave; those that have not left after `seconds_to_save` are killed."""
        deadline = time.monotonic() + self.seconds_to_save
        asked: set[int] = set()
        while any(not job.done() for job in self.jobs.values()) and time.monotonic() < deadline:
            # Repeatedly, as a rank that has just been started writes its process id a little later.
            for pid in self._running() - asked:
                _signal(pid, signal.SIGTERM)
                asked.add(pid)
            time.sleep(0.1)
        for pid in asked & self._running():
            _signal(pid, signal.SIGKILL)

    def _heartbeats(self) -> list[Heartbeat]:
        return read_heartbeats(self.folder)

    def _running(self) -> set[int]:
        """Process ids of the running ranks."""
        running = [found.worker.pid for found in self._heartbeats() if found.state == "running"]
        return {pid for pid in running if is_alive(pid)}


def _failed_ranks(heartbeats: Sequence[Heartbeat]) -> list[Heartbeat]:
    """Heartbeats of ranks that failed or were killed, the first cause first.

    A killed rank leaves a heartbeat in the state "running"; the ranks that fail because of it come after it.
    """
    killed = [found for found in heartbeats if found.state == "running" and not is_alive(found.worker.pid)]
    failed = [found for found in heartbeats if found.state == "failed"]
    return [*killed, *sorted(failed, key=lambda heartbeat: heartbeat.time)]


def _signal(pid: int, number: signal.Signals) -> None:
    with suppress(ProcessLookupError):  # it has just left by itself
        os.kill(pid, number)
