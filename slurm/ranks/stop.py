"""The stop flag: set by every signal that asks a job to end. Loops check it; handlers do no work."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from slurm.processes import is_alive

STOPPED = 75  # EX_TEMPFAIL, the exit code of a stopped rank: the work is saved; rerun to resume

SECONDS_TO_SAVE = 120.0  # for a rank whose launcher is gone

SIGNALS = (signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2, signal.SIGINT, signal.SIGHUP)

# Of a terminal. Ignored from the start, as with `nohup` or in the background of a script, they stay so.
OF_THE_TERMINAL = (signal.SIGINT, signal.SIGHUP)

MEANINGS = {signal.SIGHUP: "SIGHUP: the terminal was closed"}


@contextmanager
def interrupts_held() -> Iterator[None]:
    """Delay Ctrl-C, SIGTERM and SIGHUP until the end of the block.

    Processes started inside the block inherit blocked signals until they call `StopFlag.listen`.
    """
    received: list[int] = []
    held = [number for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP) if not _is_ignored(number)]
    handlers = {number: signal.signal(number, lambda number, frame: received.append(number)) for number in held}
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        for number, handler in handlers.items():
            signal.signal(number, handler)
    for signal_number in received:
        signal.raise_signal(signal_number)


class Stopped(Exception):  # noqa: N818 (an outcome, not an error)
    """The rank was asked to stop and left its unfinished unit to the next attempt."""


class StopFlag:
    """Set by SIGTERM, SIGUSR1, SIGUSR2, SIGINT or SIGHUP, or when the launcher is gone."""

    def __init__(self) -> None:
        self.reason: str | None = None

    def listen(self) -> StopFlag:
        """Install the handlers (main thread only); they replace submitit's."""
        for number in SIGNALS:
            if number not in OF_THE_TERMINAL or not _is_ignored(number):
                signal.signal(number, self._on_signal)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)  # signals that were blocked until now are delivered here
        return self

    def follow(self, launcher: int, *, seconds_to_save: float = SECONDS_TO_SAVE) -> None:
        """Also stop when process `launcher` of this host is gone, so that a killed launcher leaves no ranks behind.

        A rank that has not left by itself after `seconds_to_save` more seconds, as it waits for another rank that was
        killed as well, is ended: nobody else would.
        """
        child = os.getppid() == launcher  # then the next process with the launcher's id is not taken for it

        def watch() -> None:
            while is_alive(launcher) and not (child and os.getppid() != launcher):
                time.sleep(0.5)
            self.ask("the launcher is gone")
            time.sleep(seconds_to_save)
            os._exit(STOPPED)

        threading.Thread(target=watch, name="follow-launcher", daemon=True).start()

    def ask(self, reason: str) -> None:
        """Request a stop as a signal does; the first reason is kept."""
        if self.reason is None:
            self.reason = reason

    def due(self) -> bool:
        """Whether a stop was requested."""
        return self.reason is not None

    def check(self) -> None:
        """Raise `Stopped` if a stop was requested."""
        if self.reason is not None:
            raise Stopped(self.reason)

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        name = signal.Signals(number)
        self.ask(MEANINGS.get(name, name.name))


def _is_ignored(number: signal.Signals) -> bool:
    return signal.getsignal(number) is signal.SIG_IGN
