"""Where every submitted job starts: read the run folder, claim the rank, do its share, say how it ended."""

from __future__ import annotations

import logging
import os
import sys
import traceback
from pathlib import Path

import submitit

from jobs.config import load_run_folder
from jobs.rank import Rank, finish_if_last
from jobs.stage import Run, Stage
from jobs.user_errors import USER_ERRORS
from slurm.beats import Beat, claim, this_worker
from slurm.errors import RunError
from slurm.files import sweep
from slurm.requeue import requeue_this_job
from slurm.stop import StopFlag, Stopped
from slurm.submit import Payload

LOG_FORMAT = "%(asctime)s %(levelname)s %(name)s: %(message)s"
log = logging.getLogger(__name__)


def main(payload: Payload) -> None:
    """Entry point of every submitted job. Exits 0 when its share is done, 1 on an error, 75 when asked to stop."""
    os.umask(0o077)
    stop = StopFlag().listen()
    if payload.launcher is not None:
        stop.follow(payload.launcher)
    run = load_run_folder(Path(payload.run))
    run.planned = True
    stage = run.stages[payload.stage]
    world = _world(payload, stage)
    folder = run.stage_folder(stage.name)
    folder.root.mkdir(parents=True, exist_ok=True)
    _log_to(folder.log(world["index"]))
    beat = Beat(folder, world["index"], worker=this_worker())
    try:
        beat.update(state="running")
        with claim(folder, world["index"], stop=None if stage.distributed else stop):
            sweep(folder.root)
            _run(run, stage, Rank(run=run, stage=stage, stop=stop, beat=beat, **world))
        beat.update(state="done")
    except Stopped as request:
        log.info("stopped (%s); run the same command again to go on", request)
        beat.update(state="stopped", reason=str(request))
        # Slurm ends the whole job on requeue, so one rank asks for all, the one whose state is saved.
        if (world["index"] == 0 or not stage.distributed) and requeue_this_job():
            log.info("requeued")
        sys.exit(75)
    except USER_ERRORS as error:
        log.error("%s", error)
        beat.update(state="failed", reason=str(error))
        sys.exit(1)
    except Exception as error:
        log.error("%s", traceback.format_exc())
        beat.update(state="failed", reason=f"{type(error).__name__}: {error}".splitlines()[0])
        sys.exit(1)


def _run(run: Run, stage: Stage, rank: Rank) -> None:
    for name in stage.needs(run):
        if not run.outcome(name):
            raise RunError(f"{stage.name}: needs the stage {name}, which is not finished; run `cemiface {name}` first")
    stage.run_rank(run, rank)
    if rank.index == 0 or not stage.distributed:
        finish_if_last(run, stage)


def _world(payload: Payload, stage: Stage) -> dict[str, int]:
    if not stage.distributed:
        return {"index": payload.rank, "count": payload.ranks}
    environment = submitit.JobEnvironment()
    return {"index": environment.global_rank, "count": environment.num_tasks}


def _log_to(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    handlers: list[logging.Handler] = [logging.FileHandler(path, mode="a"), logging.StreamHandler(sys.stderr)]
    logging.basicConfig(level=logging.INFO, format=LOG_FORMAT, handlers=handlers, force=True)
    for noisy in ("submitit", "PIL", "matplotlib", "DeepSpeed", "h5py", "compilers"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
