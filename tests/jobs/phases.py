"""A rank of a real stage that sends itself signals at an exact point of its work, and counts calls after it.

The functions at those points are wrapped, never replaced. Each rank is a process of its own, forked from a server
that has imported torch already; the first phase of all, the imports, needs a fresh one.
"""

from __future__ import annotations

import builtins
import functools
import importlib
import json
import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ONE_RANK = {
    "SUBMITIT_EXECUTOR": "local",
    "SUBMITIT_LOCAL_JOB_ID": "1",
    "SUBMITIT_LOCAL_NTASKS": "1",
    "SUBMITIT_LOCAL_JOB_NUM_NODES": "1",
    "SUBMITIT_LOCAL_NODEID": "0",
    "SUBMITIT_LOCAL_GLOBALID": "0",
    "SUBMITIT_LOCAL_LOCALID": "0",
    "DS_ACCELERATOR": "cpu",
}


@dataclass(frozen=True, kw_only=True)
class Phase:
    """A point in a stage's work: the `call`-th call of `function` ("module:name" or "module:Class.method")."""

    stage: str
    function: str
    call: int = 1

    def __str__(self) -> str:
        return f"{self.stage}-{self.function.rpartition(':')[2]}-{self.call}"


@dataclass(frozen=True, kw_only=True)
class Ended:
    """How the rank ended: its exit code, and how often it called `counted` before and after the signal."""

    code: int | None
    before: int
    after: int


def run_with_signals(run: Path, phase: Phase, *, signals: Sequence[signal.Signals], counted: str) -> Ended:
    """Run the stage's one rank in a process of its own and send it the signals at `phase`."""
    server = multiprocessing.get_context("forkserver")
    server.set_forkserver_preload(["torch", "deepspeed", "jobs.training"])
    report = run / "calls.json"
    report.unlink(missing_ok=True)
    process = server.Process(target=_rank, args=(run, phase, tuple(signals), counted, report))
    process.start()
    process.join(timeout=300)
    if process.is_alive():
        process.kill()
        process.join()
    calls = json.loads(report.read_text()) if report.exists() else {"before": 0, "after": 0}
    return Ended(code=process.exitcode, **calls)


def _rank(run: Path, phase: Phase, signals: tuple[signal.Signals, ...], counted: str, report: Path) -> None:
    from jobs.launch.entry import main
    from slurm.submission.payload import Payload

    os.environ |= ONE_RANK
    calls = {"before": 0, "after": 0}
    sent = threading.Event()

    def count() -> None:
        calls["after" if sent.is_set() else "before"] += 1
        report.write_text(json.dumps(calls))

    def send() -> None:
        sent.set()
        report.write_text(json.dumps(calls))
        os.kill(os.getpid(), signals[0])
        for later, number in enumerate(signals[1:], start=1):  # the others while it saves, or shortly after
            threading.Timer(0.1 * later, os.kill, (os.getpid(), number)).start()

    if phase.function == "import":
        _on_import("torch", send)
    else:
        _wrap(phase.function, send, call=phase.call)
    _wrap(counted, count)
    main(Payload(entry="jobs.launch.entry:main", run=str(run), stage=phase.stage, rank=0, ranks=1))


def _wrap(function: str, action: Callable[[], None], *, call: int | None = None) -> None:
    """Have `action` happen at the start of every call of `function`, or of the `call`-th one alone."""
    module, _, path = function.partition(":")
    *parents, name = path.split(".")
    owner: Any = functools.reduce(getattr, parents, importlib.import_module(module))
    original, seen = getattr(owner, name), 0

    @functools.wraps(original)
    def wrapped(*arguments: Any, **named: Any) -> Any:
        nonlocal seen
        seen += 1
        if call in (None, seen):
            action()
        return original(*arguments, **named)

    setattr(owner, name, wrapped)


def _on_import(module: str, action: Callable[[], None]) -> None:
    """Have `action` happen when `module` is first asked for, after the stop flag listens."""
    original = builtins.__import__

    def importing(name: str, *arguments: Any, **named: Any) -> Any:
        if name == module:
            builtins.__import__ = original
            action()
        return original(name, *arguments, **named)

    builtins.__import__ = importing


if __name__ == "__main__":  # a fresh process: RUN STAGE SIGNAL, sent while torch is imported
    _rank(
        Path(sys.argv[1]),
        Phase(stage=sys.argv[2], function="import"),
        (signal.Signals[sys.argv[3]],),
        "jobs.frame.rank:Work.done",
        Path(sys.argv[1]) / "calls.json",
    )
