"""What one process of a stage does: claim its rank, work through its units, publish, mark, summarize if it is last."""

from __future__ import annotations

import logging
import os
import sys
import time
import traceback
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import submitit

from jobs.config import load_run_folder
from jobs.stage import Run, Stage, Unit
from jobs.user_errors import USER_ERRORS
from slurm.beats import Beat, claim, locked, this_worker
from slurm.errors import RunError
from slurm.files import Output, Part, digest, publish, publish_json, publishing, sweep
from slurm.markers import Marker, marked_units, read_marker, why_not_done, write_marker
from slurm.requeue import requeue_this_job
from slurm.stop import StopFlag, Stopped
from slurm.submit import Payload

LOG_FORMAT = "%(asctime)s %(levelname)s %(name)s: %(message)s"
log = logging.getLogger(__name__)


class Work:
    """One unit in the hands of one rank: publishes its outputs and, at the end, its marker."""

    def __init__(self, rank: Rank, number: int, unit: Unit) -> None:
        self.rank, self.number, self.unit = rank, number, unit
        self._outputs: list[Output] = []
        self._started = time.time()

    @contextmanager
    def publishing(self, name: str) -> Iterator[Part]:
        """A file to write; it appears in the stage folder when the block ends well."""
        with publishing(self.rank.folder.output(name)) as part:
            yield part
        self._outputs.append(part.output(name))

    def publish(self, name: str, data: bytes) -> None:
        output = publish(self.rank.folder.output(name), data)
        self._outputs.append(Output(name=name, bytes=output.bytes, sha256=output.sha256))

    def record(self, output: Output) -> None:
        """Certify a file that was put into the stage folder in another way."""
        self._outputs.append(output)

    def progress(self, images: int = 1, **values: Any) -> None:
        """Count `images` more and notice a stop request.

        Raises:
            Stopped: the rank was asked to leave; the unit is left for the next attempt.
        """
        self.rank.images += images
        self.rank.beat.update(images=self.rank.images, unit=self.number, **values)
        self.rank.stop.check()

    def done(
        self,
        *,
        images: int,
        counts: dict[str, int] | None = None,
        figures: dict[str, Any] | None = None,
        earlier_seconds: float = 0.0,
    ) -> None:
        """Certify the unit: `images` came out, `counts` says what became of the inputs."""
        marker = Marker(
            unit=self.number,
            fingerprint=self.rank.fingerprint(self.unit),
            outputs=tuple(self._outputs),
            counts={"made": images} if counts is None else counts,
            images=images,
            started=self._started,
            ended=time.time(),
            earlier_seconds=earlier_seconds,
            worker={"rank": self.rank.index, **this_worker()},
            figures=figures or {},
        )
        write_marker(self.rank.folder, marker)
        seconds = marker.ended - marker.started
        log.info("%s unit %d: done, %d images in %.1f s", self.rank.stage.name, self.number, images, seconds)


class Rank:
    """One process of a stage. In an array it owns every `count`-th unit; distributed ranks share the one unit."""

    def __init__(self, *, run: Run, stage: Stage, index: int, count: int, stop: StopFlag, beat: Beat) -> None:
        self.run, self.stage, self.index, self.count, self.stop, self.beat = run, stage, index, count, stop, beat
        self.folder = run.stage_folder(stage.name)
        self.images = 0
        self._common = run.fingerprint(stage, {})

    def fingerprint(self, unit: Unit) -> dict[str, Any]:
        return {**self._common, "unit": unit}

    def remaining(self) -> Iterator[Work]:
        """The rank's units that are not done, one after the other; outputs of stale ones are moved out of the way."""
        units = self.run.plan(self.stage.name)
        mine = range(len(units)) if self.stage.distributed else range(self.index, len(units), self.count)
        if self.index == 0 or not self.stage.distributed:
            self._set_stale_aside(units)
        for number in mine:
            if not self.stage.distributed:  # those stop together, at a step: one that left alone would be waited for
                self.stop.check()
            reason = why_not_done(self.folder, number, fingerprint=self.fingerprint(units[number]))
            if reason is None:
                continue
            log.info("%s unit %d: %s", self.stage.name, number, reason)
            yield Work(self, number, units[number])

    def _set_stale_aside(self, units: list[Unit]) -> None:
        """Move what an older config or a damaged attempt left to `superseded/`, whichever unit it was of.

        A file may have been another unit's in the older plan, so nobody starts before all of it is out of the way.
        Nothing is deleted: a config edited by mistake must not cost the work of a night.
        """
        with locked(self.folder.superseding, stop=self.stop):
            for number in marked_units(self.folder):
                wanted = self.fingerprint(units[number]) if number < len(units) else {}
                reason = why_not_done(self.folder, number, fingerprint=wanted)
                if reason is not None:
                    log.info("%s unit %d: %s; set aside", self.stage.name, number, reason)
                    self._set_aside(number)

    def _set_aside(self, number: int) -> None:
        marker = read_marker(self.folder, number)
        if marker is None:
            return
        target = self.folder.superseded / digest(marker.fingerprint)[:12]
        target.mkdir(parents=True, exist_ok=True)
        for path in (*(self.folder.output(output.name) for output in marker.outputs), self.folder.marker(number)):
            if path.exists():
                moved = target / path.relative_to(self.folder.root)
                moved.parent.mkdir(parents=True, exist_ok=True)
                os.replace(path, moved)


def finish_if_last(run: Run, stage: Stage) -> bool:
    """Write the stage's summary once every unit is done; whoever gets here last does it, twice does no harm."""
    if any(state is not None for state in run.unit_states(stage)):
        return False
    folder = run.stage_folder(stage.name)
    markers = run.markers(stage.name)
    end = stage.finish(run, markers)
    outputs = [*(output for marker in markers for output in marker.outputs), *end.outputs]
    counts: Counter[str] = Counter(end.counts)
    for marker in markers:
        counts.update(marker.counts)
    seconds = _covered([(marker.started, marker.ended) for marker in markers])
    seconds += sum(marker.earlier_seconds for marker in markers)
    images = sum(marker.images for marker in markers) if end.images_out is None else end.images_out
    summary = {
        "stage": stage.name,
        "units": len(markers),
        "images_in": sum(counts.values()) if end.images_in is None else end.images_in,
        "images_out": images,
        "counts": dict(counts),
        "figures": end.figures,
        "wall_seconds": round(seconds, 2),
        "images_per_second": round(images / seconds, 2) if seconds > 0 else 0.0,
        "started": min(marker.started for marker in markers),
        "ended": max(marker.ended for marker in markers),
        "outputs": [output.as_json() for output in outputs],
        "outcome": digest([output.as_json() for output in outputs]),
        "fingerprint": run.fingerprint(stage),
    }
    publish_json(folder.summary, summary, replace=True)
    return True


def _covered(spans: list[tuple[float, float]]) -> float:
    """Seconds covered by at least one span: waiting between two attempts does not count as work."""
    total, end = 0.0, float("-inf")
    for start, stop in sorted(spans):
        total += max(0.0, stop - max(start, end))
        end = max(end, stop)
    return total


def main(payload: Payload) -> None:
    """Entry point of every submitted job. Exits 0 when its share is done, 1 on an error, 75 when asked to stop."""
    os.umask(0o077)
    stop = StopFlag().listen()
    if payload.launcher is not None:
        stop.follow(payload.launcher)
    run = load_run_folder(Path(payload.run))
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
