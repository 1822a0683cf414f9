"""A rank and its units of work: skip finished units, publish the outputs of the others, and write their markers."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Generic

from jobs.frame.run import Run
from jobs.frame.stage import Stage
from jobs.frame.unit import Unit, UnitT, UnitT_co, read_plan, share
from slurm.disk import exists, move
from slurm.files import Output, digest, publish, publish_json, read_json
from slurm.locks import locked
from slurm.markers import Marker, marked_units, read_marker, why_not_done, write_marker
from slurm.ranks.heartbeat_writer import HeartbeatWriter
from slurm.ranks.stop import StopFlag
from slurm.ranks.worker import this_worker

log = logging.getLogger(__name__)


class Work(Generic[UnitT_co]):
    """One unit while a rank works on it: publishes its outputs and, at the end, its marker."""

    def __init__(self, rank: Rank, number: int, unit: UnitT_co) -> None:
        self.rank, self.number, self.unit = rank, number, unit
        self._outputs: list[Output] = []
        self._started = time.time()

    def path(self, name: str) -> Path:
        """The path of an output of this name."""
        return self.rank.folder.output(name)

    def publish(self, name: str, data: bytes) -> None:
        """Write an output: whole under its final name, or not at all."""
        output = publish(self.rank.folder.output(name), data)
        self._outputs.append(Output(name=name, bytes=output.bytes, sha256=output.sha256))

    def record(self, output: Output) -> None:
        """Add an output that was written in another way."""
        self._outputs.append(output)

    def progress(self, images: int = 1) -> None:
        """Count `images` more, and stop if that was requested.

        Raises:
            Stopped: the rank was asked to stop; the next attempt does the unit.
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
        """Write the marker of the unit. `images`: how many it made; `counts`: input images by outcome."""
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
        stage: Stage[Unit],
        index: int,
        count: int,
        stop: StopFlag,
        heartbeat: HeartbeatWriter,
        units: int | None = None,
    ) -> None:
        self.run, self.stage, self.index, self.count = run, stage, index, count
        self.stop, self.heartbeat = stop, heartbeat
        self.units = units  # at most this many; None: all of the rank
        self.folder = run.stage_folder(stage.name)
        self.images = 0
        self.heartbeat.update(ranks=count)  # `run-rank` needs to know how many ranks share the units
        self._common = run.ledger.fingerprint(stage, {})

    def fingerprint(self, unit: Unit) -> dict[str, Any]:
        """Everything that the outputs of the unit depend on."""
        return {**self._common, "unit": unit.as_json()}

    def remaining(self, kind: type[UnitT]) -> Iterator[Work[UnitT]]:
        """The rank's units that are not done, one after the other. `kind` is the class of the stage's units.

        Outputs of stale units are moved to `superseded/` first.

        Raises:
            Stopped: the rank was asked to stop.
        """
        planned = self.run.ledger.plan(self.stage.name).units
        units = [unit for unit in planned if isinstance(unit, kind)]
        assert len(units) == len(planned)
        if self.index == 0 or not self.stage.distributed:
            self._supersede_stale(units)
        started = 0
        for number in self._mine(len(units)):
            if not self.stage.distributed:  # distributed ranks stop together, at a training step
                self.stop.check()
            reason = why_not_done(self.folder, number, fingerprint=self.fingerprint(units[number]))
            if reason is None:
                continue
            if started == self.units:
                return
            started += 1
            log.info("%s unit %d: %s", self.stage.name, number, reason)
            yield Work(self, number, units[number])

    def _mine(self, units: int) -> list[int]:
        """The numbers of this rank's units: its share of those that were not done at launch, then of the others."""
        if self.stage.distributed:
            return list(range(units))
        return share(read_plan(self.folder), units=units, rank=self.index, ranks=self.count)

    def _supersede_stale(self, units: Sequence[Unit]) -> None:
        """Move stale and damaged outputs of all units to `superseded/`.

        An older plan may have given a file to another unit, so no rank starts before all are moved. Nothing is deleted,
        as the config may have been edited by mistake. The first rank of a launch does it for all ranks, so that every
        marker is read once, not once per rank.
        """
        current = digest([self._common, digest([unit.as_json() for unit in units])])
        with locked(self.folder.superseding, stop=self.stop, waiting=self._waits, what="the first rank of the launch"):
            self.heartbeat.update(note=None)
            if read_json(self.folder.superseded_for) == current:
                return
            for number in marked_units(self.folder):
                wanted = self.fingerprint(units[number]) if number < len(units) else {}
                reason = why_not_done(self.folder, number, fingerprint=wanted)
                if reason is not None:
                    log.info("%s unit %d: %s; moved to superseded/", self.stage.name, number, reason)
                    self._supersede(number)
            publish_json(self.folder.superseded_for, current, replace=True)

    def _waits(self, what: str) -> None:
        self.heartbeat.update(note=what)

    def _supersede(self, number: int) -> None:
        marker = read_marker(self.folder, number)
        if marker is None:
            return
        target = self.folder.superseded / digest(marker.fingerprint)[:12]
        for path in (*(self.folder.output(output.name) for output in marker.outputs), self.folder.marker(number)):
            if exists(path):
                move(path, target / path.relative_to(self.folder.root))
