"""A rank's heartbeat: reports its state, counts its attempts, and gives up after too many without progress."""

from __future__ import annotations

import json
import time
from contextlib import suppress
from dataclasses import replace
from typing import TypedDict, Unpack

from slurm.errors import DiskError, RunError
from slurm.files import publish_json
from slurm.ranks.heartbeats import Heartbeat, Requeue, Since, State, read_heartbeat
from slurm.ranks.stop import StopFlag
from slurm.ranks.worker import Worker
from slurm.run_folder import StageFolder

SECONDS_BETWEEN_HEARTBEATS = 1.0

# How many attempts in a row may end this way without progress. Preemption is normal; lost ranks point to a defect.
MAX_ATTEMPTS_WITHOUT_PROGRESS = {"stopped": 20, "lost": 3}

NODES_KEPT = 5


class Changes(TypedDict, total=False):
    """Fields of a heartbeat that a rank reports; see `Heartbeat`."""

    images: int
    ranks: int
    unit: int
    total: int
    note: str | None
    reason: str
    exit: int
    last_saved: str
    requeue: Requeue | None


class HeartbeatWriter:
    """Writes the heartbeat of one rank. It takes over the counts of attempts from the heartbeat of the last one.

    `last_saved` is the newest checkpoint of a training; other stages report what they saved as they go.
    """

    def __init__(
        self,
        stage: StageFolder,
        *,
        worker: Worker,
        last_saved: str | None = None,
        stop: StopFlag | None = None,
    ) -> None:
        self._stage, self._stop = stage, stop
        self._next = 0.0
        self.superseded = False
        now = time.time()
        fresh = Heartbeat(worker=worker, state="running", time=now, started=now)
        earlier = read_heartbeat(stage, worker.rank)
        self._heartbeat = _continued(fresh, earlier=earlier, last_saved=last_saved)

    def update(self, *, state: State = "running", **changes: Unpack[Changes]) -> None:
        """Take over `changes` and write at most once a second; a change of state is always written, as is `requeue`.

        If a newer attempt of this rank is running, this one does not write and stops: Slurm considered its node lost
        and restarted the job while this process was still alive.
        """
        now = time.monotonic()
        self._heartbeat = replace(self._heartbeat, **changes)
        if changes.get("images") and self._heartbeat.since is None:
            self._heartbeat = replace(self._heartbeat, since=Since(images=changes["images"], time=time.time()))
        if now < self._next and state == self._heartbeat.state and "requeue" not in changes:
            return
        self._next = now + SECONDS_BETWEEN_HEARTBEATS
        self._heartbeat = replace(self._heartbeat, state=state, time=time.time())
        self.superseded = self.superseded or _is_newer(self._on_disk(), self._heartbeat)
        if not self.superseded:
            self._write()
        elif self._stop is not None:
            self._stop.ask("a newer attempt of this rank is running")

    def _on_disk(self) -> Heartbeat | None:
        with suppress(DiskError):  # a heartbeat that cannot be read now is no reason to end
            return read_heartbeat(self._stage, self._heartbeat.rank)
        return None

    def _write(self) -> None:
        path, value = self._stage.heartbeat(self._heartbeat.rank), self._heartbeat.as_json()
        try:
            publish_json(path, value, replace=True)
        except DiskError:
            if self._heartbeat.state == "running":
                raise
            # How the rank ended must be known, most of all if the disk is full. The old file has a block already.
            with suppress(OSError), open(path, "r+b") as file:
                file.write(json.dumps(value).encode())
                file.truncate()
                return
            raise

    def stop_if_no_progress(self) -> None:
        """Give up a rank that is restarted again and again without saving anything.

        Raises:
            RunError: too many attempts in a row ended the same way.
        """
        for end, at_most in MAX_ATTEMPTS_WITHOUT_PROGRESS.items():
            count = self._heartbeat.without_progress.get(end, 0)
            if count >= at_most:
                raise RunError(
                    f"{count} attempts in a row were {end} before they saved anything "
                    f"(on {', '.join(self._heartbeat.nodes)}); see `cemiface why`; "
                    "`exclude:` in the cluster file keeps jobs off a bad node; then run again"
                )


def _continued(fresh: Heartbeat, *, earlier: Heartbeat | None, last_saved: str | None) -> Heartbeat:
    """A new attempt's heartbeat with the counts of the earlier attempts and what they saved."""
    if earlier is None:
        return replace(fresh, last_saved=last_saved, saved_at_start=last_saved)
    saved = earlier.last_saved if last_saved is None else last_saved
    progress = saved != earlier.saved_at_start
    attempts, nodes = dict(earlier.attempts), () if progress else earlier.nodes
    without_progress = {} if progress else dict(earlier.without_progress)
    if earlier.ended is not None:
        attempts[earlier.ended] = attempts.get(earlier.ended, 0) + 1
        if not progress:
            without_progress[earlier.ended] = without_progress.get(earlier.ended, 0) + 1
            nodes = (*nodes, earlier.worker.host)[-NODES_KEPT:]
    return replace(
        fresh,
        attempts=attempts,
        without_progress=without_progress,
        nodes=nodes,
        last_saved=saved,
        saved_at_start=saved,
    )


def _is_newer(found: Heartbeat | None, ours: Heartbeat) -> bool:
    """Whether the heartbeat on disk is of a later attempt of the same job."""
    return found is not None and found.worker.job == ours.worker.job and found.worker.restarts > ours.worker.restarts
