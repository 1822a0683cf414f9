"""Entry point of every job: read the run folder, take the rank's lock, do its units, record how it ended."""

from __future__ import annotations

import logging
import os
import sys
import time
import traceback
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import submitit

from jobs.frame.errors import USER_ERRORS
from jobs.frame.experiment import load_run_folder
from jobs.frame.rank import Rank
from jobs.frame.run import Run
from jobs.frame.stage import Stage
from jobs.frame.summary import finish_if_last
from jobs.frame.unit import Unit
from slurm.checkpoints import newest_checkpoint
from slurm.disk import disk_errors, told_fault
from slurm.errors import DiskError, RunError
from slurm.locks import claim
from slurm.partial_files import sweep
from slurm.ranks.heartbeat_writer import HeartbeatWriter
from slurm.ranks.heartbeats import Requeue
from slurm.ranks.requeue import peer_is_lost, requeue_once_saved, requeue_without_peer
from slurm.ranks.stop import STOPPED, StopFlag, Stopped
from slurm.ranks.worker import leave_allocation, this_worker
from slurm.run_folder import RunFolder
from slurm.run_identity import read_identity
from slurm.submission.payload import Payload

DISK = 74  # EX_IOERR: a file could not be written
SECONDS_TO_SEE_FILES = 60.0  # of another node: longer than network file systems cache the content of a folder
LOG_FORMAT = "%(asctime)s %(levelname)s %(name)s: %(message)s"

log = logging.getLogger(__name__)


def main(payload: Payload) -> None:
    """Run one rank. Exits 0 (its units are done), 1 (an error), 74 (a file could not be written) or 75 (stopped)."""
    os.umask(0o077)
    if not payload.slurm:
        leave_allocation(keep=["SUBMITIT_"])
    stop = StopFlag().listen()
    if payload.launcher is not None:
        stop.follow(payload.launcher)
    try:
        _check_run(payload)
        attempt = _begun(payload, stop)
    except USER_ERRORS as error:  # there may be no log and no heartbeat yet
        print(f"cemiface: {payload.stage}: {error}", file=sys.stderr)
        sys.exit(DISK if isinstance(error, DiskError) else 1)
    # Exit here, as the run folder holds the results. submitit would otherwise pickle a return value, and fail the job
    # if a killed attempt left half of that pickle.
    sys.exit(attempt.run_to_end() if attempt is not None else 0)


def _begun(payload: Payload, stop: StopFlag) -> _Attempt | None:
    """The attempt of this process; None if there is no rank for it."""
    run = load_run_folder(Path(payload.run))
    run.ledger.planned = True
    stage = run.stages[payload.stage]
    process = _Process.of(payload, distributed=stage.distributed)
    if process.index >= process.count:
        return None  # the last task of an array may have more processes than ranks
    folder = run.stage_folder(stage.name)
    _log_to(folder.log(process.index))
    newest = newest_checkpoint(folder) if stage.distributed else None
    heartbeat = HeartbeatWriter(folder, worker=this_worker(process.index), last_saved=newest, stop=stop)
    return _Attempt(
        run=run,
        stage=stage,
        process=process,
        units=payload.units,
        launched=payload.launcher is not None,
        stop=stop,
        heartbeat=heartbeat,
    )


def _check_run(payload: Payload) -> None:
    """Leave if another run is at the path by now: its files are not for this job."""
    found = read_identity(RunFolder(Path(payload.run))).id
    if payload.id and found != payload.id:
        sys.exit(
            f"{payload.run}: this job is of the run {payload.id}, but the folder is of {found or 'none'}; removed?"
        )


@dataclass(frozen=True, kw_only=True)
class _Attempt:
    """One attempt of a rank. Its heartbeat records how it ended."""

    run: Run
    stage: Stage[Unit]
    process: _Process
    units: int | None  # at most this many; None: all of the rank
    launched: bool  # by a launch on this machine, which watches it
    stop: StopFlag
    heartbeat: HeartbeatWriter

    def run_to_end(self) -> int:
        """Do the rank's units; returns the exit code."""
        try:
            self._work()
        except Stopped as request:
            return self._stopped(request)
        except USER_ERRORS as error:
            log.error("%s", error)
            return self._failed(str(error), code=DISK if isinstance(error, DiskError) else 1)
        except Exception as error:
            fault = told_fault(error, folder=self.run.folder.root) if isinstance(error, OSError) else None
            if fault is not None:
                log.error("%s", fault)
                return self._failed(str(fault), code=DISK)
            log.error("%s", traceback.format_exc())
            gone = "ranks on another node are gone"
            lost = self.stage.distributed and peer_is_lost(error)
            if lost and self.launched:  # the launcher starts all ranks again
                self.heartbeat.update(state="stopped", reason="another rank is gone", exit=STOPPED)
                return STOPPED
            if lost and requeue_without_peer(self.stop, tell=partial(self._tell, gone)):
                self.heartbeat.update(state="stopped", reason=gone, exit=STOPPED)
                return STOPPED
            return self._failed(f"{type(error).__name__}: {error}".splitlines()[0], code=1)
        return 0

    def _work(self) -> None:
        run, stage, index = self.run, self.stage, self.process.index
        self.heartbeat.update(state="running")
        self.heartbeat.stop_if_no_progress()
        folder = run.stage_folder(stage.name)
        with claim(folder, index, stop=self.stop, waiting=self._waits):
            self.heartbeat.update(note=None)
            sweep(folder.root)
            rank = Rank(
                run=run,
                stage=stage,
                index=index,
                count=self.process.count,
                stop=self.stop,
                heartbeat=self.heartbeat,
                units=self.units,
            )
            for name in stage.needs(run):
                _wait_for_files(run, run.stages[name], rank)
            stage.run_rank(run, rank)
            if index == 0 or not stage.distributed:
                finish_if_last(run, stage)
        self.heartbeat.update(state="done", exit=0)

    def _waits(self, what: str) -> None:
        """Let `status` say what this rank waits for."""
        self.heartbeat.update(note=what)

    def _stopped(self, request: Stopped) -> int:
        log.info("stopped (%s); rerun the same command to resume", request)
        self.heartbeat.update(state="stopped", reason=str(request), exit=STOPPED)
        if not self.heartbeat.superseded:
            folder = self.run.stage_folder(self.stage.name)
            requeue_once_saved(folder, self.process.together, tell=partial(self._tell, str(request)))
        return STOPPED

    def _tell(self, reason: str, problem: str, requeue: Requeue | None) -> None:
        """Put into the heartbeat why the job is not requeued, or not yet: whoever is killed meanwhile has said it."""
        wait = {"waiting": "not requeued yet", "refused": "not requeued"}
        more = f"; {wait[requeue]}: {problem}" if requeue else ""
        with suppress(DiskError):
            self.heartbeat.update(state="stopped", reason=reason + more, exit=STOPPED, requeue=requeue)

    def _failed(self, reason: str, *, code: int) -> int:
        with suppress(DiskError):  # if even this cannot be written, the scheduler's log has the error
            self.heartbeat.update(state="failed", reason=reason, exit=code)
        return code


def _wait_for_files(run: Run, needed: Stage[Unit], rank: Rank) -> None:
    """Wait until a needed stage is finished: on a shared file system, files of another node may appear late.

    Raises:
        RunError: it is not finished.
        Stopped: a stop was requested while waiting.
    """
    deadline = time.monotonic() + (SECONDS_TO_SEE_FILES if "SLURM_JOB_ID" in os.environ else 0.0)
    while not run.ledger.outcome(needed.name):
        finish_if_last(run, needed)  # its last ranks may not have seen each other's markers
        if run.ledger.outcome(needed.name):
            break
        if time.monotonic() >= deadline:
            reason = f"needs the stage {needed.name}, which is not finished; run `cemiface {needed.name}` first"
            raise RunError(f"{rank.stage.name}: {reason}")
        rank.heartbeat.update(note=f"waits for the files of the stage {needed.name}")
        rank.stop.check()
        time.sleep(1.0)
    rank.heartbeat.update(note=None)


@dataclass(frozen=True, kw_only=True)
class _Process:
    """This process is rank `index` of `count`; `together` are the ranks of its job, which is requeued as a whole."""

    index: int
    count: int
    together: range

    @classmethod
    def of(cls, payload: Payload, *, distributed: bool) -> _Process:
        """This process, from its payload and the environment that submitit sets."""
        # Without submitit (`cemiface run-rank`) there is one process.
        environment = submitit.JobEnvironment() if "SUBMITIT_EXECUTOR" in os.environ else None
        here, processes = (environment.global_rank, environment.num_tasks) if environment else (0, 1)
        if distributed:
            return cls(index=here, count=processes, together=range(processes))
        together = range(payload.rank, min(payload.rank + processes, payload.ranks))
        return cls(index=payload.rank + here, count=payload.ranks, together=together)


def _log_to(path: Path) -> None:
    logging.raiseExceptions = False  # a full disk would bring a traceback for each line
    with disk_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        handlers: list[logging.Handler] = [logging.FileHandler(path, mode="a"), logging.StreamHandler(sys.stderr)]
    logging.basicConfig(level=logging.INFO, format=LOG_FORMAT, handlers=handlers, force=True)
    for noisy in ("submitit", "PIL", "matplotlib", "DeepSpeed", "h5py", "compilers"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
