"""A rank and its units of work: skip what is done, publish the rest, mark it, and summarize the stage if it is last."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Generic

from jobs.frame.run import Run
from jobs.frame.stage import Stage
from jobs.frame.unit import Unit, UnitT, UnitT_co, read_plan
from slurm.files import Output, digest, publish, publish_json, read_json
from slurm.locks import locked
from slurm.markers import Marker, marked_units, read_marker, why_not_done, write_marker
from slurm.ranks.heartbeat_writer import HeartbeatWriter
from slurm.ranks.stop import StopFlag
from slurm.ranks.worker import this_worker

log = logging.getLogger(__name__)


class Work(Generic[UnitT_co]):
    """One unit in the hands of one rank: publishes its outputs and, at the end, its marker."""

    def __init__(self, rank: Rank, number: int, unit: UnitT_co) -> None:
        self.rank, self.number, self.unit = rank, number, unit
        self._outputs: list[Output] = []
        self._started = time.time()

    def path(self, name: str) -> Path:
        """Where an output of this name belongs."""
        return self.rank.folder.output(name)

    def publish(self, name: str, data: bytes) -> None:
        output = publish(self.rank.folder.output(name), data)
        self._outputs.append(Output(name=name, bytes=output.bytes, sha256=output.sha256))

    def record(self, output: Output) -> None:
        """Certify a file that was put into the stage folder in another way."""
        self._outputs.append(output)

    def progress(self, images: int = 1) -> None:
        """Count `images` more and notice a stop request.

        Raises:
            Stopped: the rank was asked to leave; the unit is left for the next attempt.
        """
        self.rank.images += images
        self.rank.heartbeat.update(images=self.rank.images, unit=self.number)
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
            worker=this_worker(self.rank.index),
            figures=figures or {},
        )
        write_marker(self.rank.folder, marker)
        self.rank.heartbeat.update(last_saved=f"unit {self.number}")
        seconds = marker.ended - marker.started
        log.info("%s unit %d: done, %d images in %.1f s", self.rank.stage.name, self.number, images, seconds)


class Rank:
    """One process of a stage. In an array it owns every `count`-th unit; distributed ranks share the one unit."""

    def __init__(
        self,
        *,
        run: Run,
        stage: Stage,
        index: int,
        count: int,
        stop: StopFlag,
        heartbeat: HeartbeatWriter,
        units: int | None = None,
    ) -> None:
        self.run, self.stage, self.index, self.count = run, stage, index, count
        self.stop, self.heartbeat = stop, heartbeat
        self.units = units  # at most so many, None: all that are its
        self.folder = run.stage_folder(stage.name)
        self.images = 0
        self.heartbeat.update(ranks=count)  # whoever reruns one rank needs to know how many share the units
        self._common = run.ledger.fingerprint(stage, {})

    def fingerprint(self, unit: Unit) -> dict[str, Any]:
        return {**self._common, "unit": unit.as_json()}

    def remaining(self, kind: type[UnitT]) -> Iterator[Work[UnitT]]:
        """The rank's units that are not done, one after the other; outputs of stale ones are moved out of the way.

        `kind` is the class of the stage's units.
        """
        units = [unit for unit in self.run.ledger.plan(self.stage.name).units if isinstance(unit, kind)]
        if self.index == 0 or not self.stage.distributed:
            self._set_stale_aside(units)
        begun = 0
        for number in self._mine(len(units)):
            if not self.stage.distributed:  # those stop together, at a step: one that left alone would be waited for
                self.stop.check()
            reason = why_not_done(self.folder, number, fingerprint=self.fingerprint(units[number]))
            if reason is None:
                continue
            if begun == self.units:
                return
            begun += 1
            log.info("%s unit %d: %s", self.stage.name, number, reason)
            yield Work(self, number, units[number])

    def _mine(self, units: int) -> list[int]:
        """The unit numbers this rank looks after: its share of those the launch found undone, then of the others."""
        if self.stage.distributed:
            return list(range(units))
        plan = read_plan(self.folder)
        first = [number for number in (plan.undone if plan else ()) if number < units]
        known = set(first)
        order = first + [number for number in range(units) if number not in known]
        return order[self.index :: self.count]

    def _set_stale_aside(self, units: Sequence[Unit]) -> None:
        """Move what an older config or a damaged attempt left to `superseded/`, whichever unit it was of.

        A file may have been another unit's in the older plan, so nobody starts before all of it is out of the way.
        Nothing is deleted: a config edited by mistake must not cost the work of a night. The first rank of a launch
        does it for all: every marker is read once, not once per rank.
        """
        wanted_by_all = digest([self._common, digest([unit.as_json() for unit in units])])
        with locked(self.folder.superseding, stop=self.stop):
            if read_json(self.folder.superseded_for) == wanted_by_all:
                return
            for number in marked_units(self.folder):
                wanted = self.fingerprint(units[number]) if number < len(units) else {}
                reason = why_not_done(self.folder, number, fingerprint=wanted)
                if reason is not None:
                    log.info("%s unit %d: %s; set aside", self.stage.name, number, reason)
                    self._set_aside(number)
            publish_json(self.folder.superseded_for, wanted_by_all, replace=True)

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
