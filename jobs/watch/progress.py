"""Progress of a running stage: a bar with the time left on terminals, a line every half minute elsewhere."""

from __future__ import annotations

import logging
import time
from contextlib import suppress
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from jobs.frame.run import Run
from jobs.frame.stage import Stage
from jobs.frame.unit import Unit
from jobs.watch.throughput import images_expected, images_of_attempt
from jobs.watch.units import read_units
from slurm.markers import marked_units
from slurm.ranks.heartbeats import Heartbeat

SECONDS_BETWEEN_LINES = 30.0

log = logging.getLogger(__name__)


class StageProgress:
    """Shows the images of done units and running ranks, of all images that the stage will handle."""

    def __init__(self, run: Run, stage: Stage[Unit]) -> None:
        self.run, self.stage = run, stage
        self.before = read_units(run, stage)  # at the start of this launch
        self._now, self._marked = self.before, -1
        console = Console(stderr=True)
        self.terminal = console.is_terminal
        self._bar = Progress(
            TextColumn("{task.description:<18}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[note]}"),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            console=console,
            transient=True,
            disable=not self.terminal,
        )
        self._task = self._bar.add_task(stage.name, total=images_expected(run, stage, self.before, []), note="")
        self._next_line = time.monotonic() + SECONDS_BETWEEN_LINES

    def __enter__(self) -> StageProgress:
        with suppress(OSError):  # the terminal is gone, and the work goes on
            self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with suppress(OSError):
            self._bar.stop()

    def update(self, heartbeats: list[Heartbeat]) -> None:
        """Show what the ranks have reported."""
        images = images_of_attempt(self.stage, heartbeats) + (0 if self.stage.distributed else self.before.images)
        note = next((heartbeat.note for heartbeat in heartbeats if heartbeat.note), "")
        total = self._expected(heartbeats)
        self._bar.update(self._task, completed=images, total=total, note=note)
        if not self.terminal and time.monotonic() >= self._next_line:
            self._next_line = time.monotonic() + SECONDS_BETWEEN_LINES
            log.info("%s: %d of %s images %s", self.stage.name, images, total or "?", note)

    def _expected(self, heartbeats: list[Heartbeat]) -> int | None:
        """Images of the whole stage. If each unit is a training, units that end meanwhile change the estimate."""
        trainings = not self.stage.distributed and any(heartbeat.total for heartbeat in heartbeats)
        if trainings and (marked := len(marked_units(self.run.stage_folder(self.stage.name)))) != self._marked:
            self._marked, self._now = marked, read_units(self.run, self.stage)
        return images_expected(self.run, self.stage, self._now, heartbeats)
