"""One stop flag for every way a cluster asks a job to end; inner loops look at it, nothing happens in a handler."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from slurm.files import is_alive

SIGNALS = (signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2, signal.SIGINT)


@contextmanager
def interrupts_held() -> Iterator[None]:
    """Hold back Ctrl-C and SIGTERM until the end of the block, in processes started there until they listen.

    The scheduler library's local controller never listens: it would kill its ranks on Ctrl-C, while they save.
    """
    came: list[int] = []
    held = (signal.SIGINT, signal.SIGTERM)
    handlers = {number: signal.signal(number, lambda number, frame: came.append(number)) for number in held}
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        for number, handler in handlers.items():
            signal.signal(number, handler)
    for signal_number in came:
        signal.raise_signal(signal_number)


class Stopped(Exception):  # noqa: N818 (an outcome, not an error)
    """The rank was asked to stop and has left its unfinished unit for the next attempt."""


class StopFlag:
    """Set by SIGTERM, SIGUSR1, SIGUSR2 and SIGINT in any order, or by the death of the launcher."""

    def __init__(self) -> None:
        self.reason: str | None = None

    def listen(self) -> StopFlag:
        """Install the handlers (main thread only); replaces the scheduler library's own."""
        for number in SIGNALS:
            signal.signal(number, self._on_signal)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)  # what was held back for this process comes now
        return self

    def follow(self, launcher: int) -> None:
        """Also stop when process `launcher` of this host is gone: a killed launcher leaves no orphans at work."""

        def watch() -> None:
            while self.reason is None:
                if not is_alive(launcher):
                    self.ask("the launcher is gone")
                self._wake.wait(0.5)

        self._wake = threading.Event()
        threading.Thread(target=watch, name="follow-launcher", daemon=True).start()

    def ask(self, reason: str) -> None:
        """Stop as if a signal had come; the first reason stays."""
        if self.reason is None:
            self.reason = reason

    def due(self) -> bool:
        return self.reason is not None

    def check(self) -> None:
        """Raise `Stopped` if a stop is due."""
        if self.reason is not None:
            raise Stopped(self.reason)

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        self.ask(signal.Signals(number).name)
