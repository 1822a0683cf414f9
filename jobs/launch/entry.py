"""Where every submitted job starts: read the run folder, claim the rank, do its share, say how it ended."""

from __future__ import annotations

import logging
import os
import sys
import time
import traceback
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import submitit

from jobs.frame.errors import USER_ERRORS
from jobs.frame.experiment import load_run_folder
from jobs.frame.rank import Rank
from jobs.frame.run import Run
from jobs.frame.stage import Stage
from jobs.frame.summary import finish_if_last
from slurm.checkpoints import newest_checkpoint
from slurm.errors import DiskError, RunError
from slurm.files import sweep
from slurm.heartbeats import Beat, claim, this_worker
from slurm.requeue import peer_is_lost, requeue_once_saved, requeue_without_peer
from slurm.stop import StopFlag, Stopped
from slurm.submit import Payload

STOPPED = 75  # EX_TEMPFAIL: saved, to be run again

DISK = 74  # EX_IOERR: a file could not be written

SECONDS_TO_SEE = 60.0  # what another node has written: longer than file systems keep what they know of a folder

LOG_FORMAT = "%(asctime)s %(levelname)s %(name)s: %(message)s"

log = logging.getLogger(__name__)


def main(payload: Payload) -> None:
    """Entry point of every submitted job. Exits 0 (its share is done), 1 (an error), 74 (disk full), 75 (to go on)."""
    os.umask(0o077)
    stop = StopFlag().listen()
    if payload.launcher is not None:
        stop.follow(payload.launcher)
    run = load_run_folder(Path(payload.run))
    run.ledger.planned = True
    stage = run.stages[payload.stage]
    process = _Process.of(payload, distributed=stage.distributed)
    if process.index >= process.count:
        sys.exit(0)  # the last task of an array has room for more ranks than are left
    folder = run.stage_folder(stage.name)
    folder.root.mkdir(parents=True, exist_ok=True)
    _log_to(folder.log(process.index))
    newest = newest_checkpoint(folder) if stage.distributed else None
    beat = Beat(folder, process.index, worker=this_worker(), landmark=newest, stop=stop)
    try:
        beat.update(state="running")
        beat.refuse_to_spin()
        with claim(folder, process.index, stop=None if stage.distributed else stop):
            sweep(folder.root)
            share: dict[str, Any] = {"index": process.index, "count": process.count, "units": payload.units}
            _run(run, stage, Rank(run=run, stage=stage, stop=stop, beat=beat, **share))
        beat.update(state="done", exit=0)
    except Stopped as request:
        log.info("stopped (%s); run the same command again to go on", request)
        beat.update(state="stopped", reason=str(request), exit=STOPPED)
        if not beat.superseded:
            requeue_once_saved(folder, process.together)
        sys.exit(STOPPED)
    except USER_ERRORS as error:
        log.error("%s", error)
        code = DISK if isinstance(error, DiskError) else 1
        with suppress(DiskError):  # where nothing can be written any more, the log on the scheduler's side tells
            beat.update(state="failed", reason=str(error), exit=code)
        sys.exit(code)
    except Exception as error:
        log.error("%s", traceback.format_exc())
        if stage.distributed and peer_is_lost(error) and requeue_without_peer(stop):
            beat.update(state="stopped", reason="ranks of another node are gone", exit=STOPPED)
            sys.exit(STOPPED)
        beat.update(state="failed", reason=f"{type(error).__name__}: {error}".splitlines()[0], exit=1)
        sys.exit(1)
    # The run folder holds all there is to say. submitit would write a pickle of it, and fail the job if a killed
    # attempt left half of one behind.
    sys.exit(0)


def _run(run: Run, stage: Stage, rank: Rank) -> None:
    for name in stage.needs(run):
        _await(run, run.stages[name], rank)
    stage.run_rank(run, rank)
    if rank.index == 0 or not stage.distributed:
        finish_if_last(run, stage)


def _await(run: Run, needed: Stage, rank: Rank) -> None:
    """Wait until what is read is there to see: on a shared file system another node's last files may come late.

    Raises:
        RunError: it is not finished.
        Stopped: asked to leave meanwhile.
    """
    deadline = time.monotonic() + (SECONDS_TO_SEE if "SLURM_JOB_ID" in os.environ else 0.0)
    while not run.ledger.outcome(needed.name):
        finish_if_last(run, needed)  # its last ranks may not have seen each other's markers
        if run.ledger.outcome(needed.name):
            return
        if time.monotonic() >= deadline:
            name = needed.name
            raise RunError(
                f"{rank.stage.name}: needs the stage {name}, which is not finished; run `cemiface {name}` first"
            )
        rank.stop.check()
        time.sleep(1.0)


@dataclass(frozen=True, kw_only=True)
class _Process:
    """This process: rank `index` of `count`; `together`: the ranks that one job runs, and that leave together."""

    index: int
    count: int
    together: range

    @classmethod
    def of(cls, payload: Payload, *, distributed: bool) -> _Process:
        # Run by hand, there is no job environment: one process.
        environment = submitit.JobEnvironment() if "SUBMITIT_EXECUTOR" in os.environ else None
        here, processes = (environment.global_rank, environment.num_tasks) if environment else (0, 1)
        if distributed:
            return cls(index=here, count=processes, together=range(processes))
        together = range(payload.rank, min(payload.rank + processes, payload.ranks))
        return cls(index=payload.rank + here, count=payload.ranks, together=together)


def _log_to(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    handlers: list[logging.Handler] = [logging.FileHandler(path, mode="a"), logging.StreamHandler(sys.stderr)]
    logging.basicConfig(level=logging.INFO, format=LOG_FORMAT, handlers=handlers, force=True)
    for noisy in ("submitit", "PIL", "matplotlib", "DeepSpeed", "h5py", "compilers"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
