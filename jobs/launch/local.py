"""Launching: bring stages to their end on this machine, or submit them to Slurm. The same command again resumes."""

from __future__ import annotations

import fcntl
import logging
import os
import signal
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from types import FrameType
from typing import Any

import submitit

from jobs.frame.experiment import save_run
from jobs.frame.run import Run
from jobs.frame.stage import Stage
from jobs.launch.submission import ENTRY, PROJECT, refuse_second_submission, require_finished, submit, write_plan
from jobs.watch.progress import StageProgress
from slurm.errors import RunError
from slurm.files import is_alive, publish_json, sweep
from slurm.heartbeats import read_beats
from slurm.provenance import provenance
from slurm.stop import interrupts_held
from slurm.submit import Payload, start_local

SECONDS_TO_SAVE = 120.0  # ranks get this long to save their work after Ctrl-C

SECONDS_AFTER_FAILURE = 10.0  # and the others this long once a rank of their process group has failed

log = logging.getLogger(__name__)


def launch(run: Run, stages: Sequence[Stage]) -> None:
    """Bring the stages to their end on this machine, or submit them, as the cluster file says.

    Ranks read the config from the run folder, so nothing is written there while ranks of another launch may start.
    """
    run.folder.create()
    with _only_launcher(run):
        refuse_second_submission(run)
        sweep(run.folder.root)
        save_run(run)
        publish_json(run.folder.provenance, provenance(PROJECT), replace=True)
        if run.cluster.executor == "slurm":
            submit(run, stages)
        else:
            run_local(run, stages)


@contextmanager
def _only_launcher(run: Run) -> Iterator[None]:
    """Hold the run's lock; waits for a launch of the same run that is still at work."""
    handle = os.open(run.folder.lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.pread(handle, 32, 0).decode(errors="replace").strip()
            log.info("%s: process %s is at work on this run; waiting for it to end", run.folder.root, holder)
            fcntl.flock(handle, fcntl.LOCK_EX)
        except OSError as error:
            log.warning("%s: no locks here (%s); do not launch this run twice at once", run.folder.root, error.strerror)
        os.ftruncate(handle, 0)
        os.pwrite(handle, f"{os.getpid()}\n".encode(), 0)
        yield
    finally:
        os.close(handle)


def run_local(run: Run, stages: Sequence[Stage]) -> None:
    """Bring the stages to their end, one after the other, each as local processes.

    A failed stage stops what needs it and nothing else: the report is also made of a run that was not published.

    Raises:
        RunError: a stage failed; the message names the rank and its log.
        KeyboardInterrupt: after Ctrl-C or SIGTERM, once the ranks have saved their work.
    """
    signal.signal(signal.SIGTERM, _as_interrupt)
    failed: dict[str, RunError] = {}
    for stage in stages:
        lacking = failed.keys() & set(stage.needs(run))
        try:
            if lacking:
                raise RunError(f"{stage.name}: not run, it needs {', '.join(sorted(lacking))}")
            _run_local_stage(run, stage)
        except RunError as error:
            log.error("%s", error)
            failed[stage.name] = error
    if failed:
        raise next(iter(failed.values()))


def _run_local_stage(run: Run, stage: Stage) -> None:
    for name in stage.needs(run):
        require_finished(run, name, needed_by=stage)
    if run.ledger.why_not_finished(stage) is None:
        log.info("%s: done already", stage.name)
        return
    forecast = stage.forecast(run)
    if forecast is not None:
        log.info("%s", forecast)
    started = time.monotonic()
    _LocalStage(run, stage).work()
    left = run.ledger.why_not_finished(stage)
    if left is not None:
        raise RunError(f"{stage.name}: ended, but is not finished ({left}); see {run.stage_folder(stage.name).logs}")
    log.info("%s: finished in %.1f s", stage.name, time.monotonic() - started)


class _LocalStage:
    """One stage as local processes: at most `parallel` ranks at once, stopped ranks are started again."""

    def __init__(self, run: Run, stage: Stage) -> None:
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
        write_plan(self.run, self.stage, undone=self.undone)
        for path in self.folder.submissions.glob("*.pkl"):  # submitit names them by process ids, which come again
            path.unlink()
        queue = list(range(self.ranks))
        try:
            with StageProgress(self.run, self.stage) as progress:
                while queue or self.jobs:
                    while queue and len(self.jobs) < self.parallel:
                        rank = queue.pop(0)
                        with interrupts_held():  # a rank that was started is always known, and asked to stop
                            self.jobs[rank] = start_local(self._payload(rank), stage=self.folder, ranks=self.processes)
                    time.sleep(0.1)
                    progress.update(read_beats(self.folder))
                    queue.extend(self._ended())
                    self._refuse_to_wait_for_the_dead()
        except KeyboardInterrupt:
            log.info("%s: stopping; the ranks save their work, the same command goes on from there", self.stage.name)
            raise
        finally:
            self._stop_all()

    def _payload(self, rank: int) -> Payload:
        root = str(self.run.folder.root)
        return Payload(entry=ENTRY, run=root, stage=self.stage.name, rank=rank, ranks=self.ranks, launcher=os.getpid())

    def _ended(self) -> list[int]:
        """Take the ranks that ended out of `jobs`; returns those to start again.

        Raises:
            RunError: a rank failed or died.
        """
        again = []
        for rank in [rank for rank, job in self.jobs.items() if job.done()]:
            job = self.jobs.pop(rank)
            beats = [beat for beat in read_beats(self.folder) if self.stage.distributed or beat["rank"] == rank]
            if beats and all(beat["state"] == "done" for beat in beats):
                continue
            if not self._ill(beats) and any(beat["state"] == "stopped" for beat in beats):
                again.append(rank)  # it gives up by itself when it gets nowhere
                continue
            raise RunError(self._obituary(job, rank, beats))
        return again

    def _refuse_to_wait_for_the_dead(self) -> None:
        """One failed rank of a distributed stage is the end of all: the others would wait for it in a collective.

        Raises:
            RunError: a rank failed or died; the rest get a short time to leave.
        """
        beats = read_beats(self.folder) if self.stage.distributed else []
        for rank, job in self.jobs.items():
            if self._ill(beats):
                self.seconds_to_save = SECONDS_AFTER_FAILURE
                raise RunError(self._obituary(job, rank, beats))

    def _ill(self, beats: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
        """Ranks that died or failed, the cause before those that it took along."""
        died = [beat for beat in beats if beat["state"] == "running" and not is_alive(beat["pid"])]
        failed = [beat for beat in beats if beat["state"] == "failed"]
        return [*died, *sorted(failed, key=lambda beat: float(beat["time"]))]

    def _obituary(self, job: submitit.Job[None], rank: int, beats: Sequence[dict[str, Any]]) -> str:
        for beat in (*self._ill(beats), *beats):
            rank = beat["rank"]
            if beat["state"] == "running":
                break
            return f"{self.stage.name} rank {rank}: {beat.get('reason', '')} [log: {self.folder.log(rank)}]"
        output = job.task(rank if self.stage.distributed else 0).paths.stdout
        return f"{self.stage.name} rank {rank}: died without a word (killed, or out of memory?) [output: {output}]"

    def _stop_all(self) -> None:
        """Ask the ranks that still run to save and leave; wait for them, in vain only so long."""
        deadline = time.monotonic() + self.seconds_to_save
        asked: set[int] = set()
        while any(not job.done() for job in self.jobs.values()) and time.monotonic() < deadline:
            # Again and again: a rank that was only just started tells its process id a little later.
            for pid in self._running() - asked:
                _signal(pid, signal.SIGTERM)
                asked.add(pid)
            time.sleep(0.1)
        for pid in asked & self._running():
            _signal(pid, signal.SIGKILL)

    def _running(self) -> set[int]:
        beats = read_beats(self.folder)
        return {beat["pid"] for beat in beats if beat["state"] == "running" and is_alive(beat["pid"])}


def _signal(pid: int, number: signal.Signals) -> None:
    with suppress(ProcessLookupError):  # it left by itself in this moment
        os.kill(pid, number)


def _as_interrupt(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt
