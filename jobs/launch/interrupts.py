"""What ends a launch on this machine: Ctrl-C, signals of a scheduler, and the end of its terminal."""

from __future__ import annotations

import os
import signal
from types import FrameType


class TerminalClosed(KeyboardInterrupt):
    """The terminal of the launch was closed, as by the end of an ssh session."""


def end_on_signals() -> None:
    """Have the signals that ranks hear end the launch as Ctrl-C does, once. With `nohup` it does not hear SIGHUP.

    SIGUSR1 and SIGUSR2 come from the job of Slurm that it may run in, shortly before the time limit. The shell and the
    kernel may both send SIGHUP, which must not cut the saving short.
    """
    terminals = [handle for handle in (0, 1, 2) if os.isatty(handle)]
    ending = False

    def end(number: int, frame: FrameType | None) -> None:
        nonlocal ending
        if number == signal.SIGHUP:
            _let_go(terminals)
        if not ending:
            ending = True
            raise TerminalClosed if number == signal.SIGHUP else KeyboardInterrupt

    for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2):
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, end)


def _let_go(terminals: list[int]) -> None:
    """Write to nowhere instead of to a terminal that is gone, where it would be an error."""
    nowhere = os.open(os.devnull, os.O_RDWR)
    for handle in terminals:
        os.dup2(nowhere, handle)
    os.close(nowhere)
