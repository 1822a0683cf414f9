"""Read mutated files of every format, each in a process with limits.

    python -m tests.fuzz.fuzz --mutations 100000 [--seed 1] [--only tar zip] [--keep FOLDER]

Asserts of every file: the reader gives a value or raises its own error, in one line; it starts no program; it takes at
most 2 GB more than the process had, and at most 20 s. A file is a function of seed, format and number.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import time
import traceback
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from types import FrameType
from typing import Any

MEMORY = 2 * 10**9  # bytes
SECONDS = 120.0
SECONDS_IN_C = 300.0  # until a process that cannot be interrupted is killed
EXECUTING = ("os.system", "subprocess.Popen", "os.exec", "os.posix_spawn", "os.fork", "socket.connect")
MAX_FAILURES = 20  # of a format
PROJECT = Path(__file__).parents[2]


class TooSlowError(BaseException):
    """One file took longer than `SECONDS`; no Exception, so that no reader takes it for damage."""


@dataclass
class Report:
    """What became of the files of one format."""

    files: int = 0
    refused: int = 0
    seconds: float = 0.0
    slowest: float = 0.0
    failures: list[str] = field(default_factory=list)


def fuzz(name: str, *, mutations: int, seed: int, keep: Path | None = None) -> Report:
    """Read that many mutated files of a format in child processes; a child that dies is a failure of its file."""
    report, first, start = Report(), 0, time.monotonic()
    with TemporaryDirectory(dir="/dev/shm" if os.path.isdir("/dev/shm") else None) as folder:
        while first < mutations and len(report.failures) < MAX_FAILURES:
            first = _one_child(name, report, Path(folder), first=first, mutations=mutations, seed=seed, keep=keep)
    report.seconds = time.monotonic() - start
    return report


def _one_child(
    name: str, report: Report, folder: Path, *, first: int, mutations: int, seed: int, keep: Path | None
) -> int:
    """Run a child until its end; returns the number of the next file."""
    progress = folder / "progress"
    progress.write_text(str(first))
    command = [sys.executable, "-m", "tests.fuzz.fuzz", "--child", name, "--folder", str(folder)]
    command += ["--first", str(first), "--mutations", str(mutations), "--seed", str(seed)]
    log = open(folder / "log", "w+")  # noqa: SIM115
    child = subprocess.Popen(command, cwd=PROJECT, stdout=log, stderr=log)
    seen, since = first, time.monotonic()
    while child.poll() is None:
        time.sleep(0.02)
        now = int(progress.read_text() or seen)
        if now != seen:
            seen, since = now, time.monotonic()
        elif time.monotonic() - since > SECONDS_IN_C:
            child.kill()
            child.wait()
    log.seek(0)
    ended = False
    for line in log.read().splitlines():
        if line.startswith("{"):
            found = json.loads(line)
            ended = ended or "files" in found
            report.refused += found.get("refused", 0)
            report.slowest = max(report.slowest, found.get("slowest", 0.0))
            report.failures += [f"{name} {found['number']}: {found['what']}"] if "what" in found else []
    at = int(progress.read_text())
    if not ended:
        log.seek(0)
        tail = " ".join(log.read().split())[-400:]
        report.failures.append(f"{name} {at}: the process ended with {child.returncode}: {tail}")
    if keep is not None and report.failures:
        keep.mkdir(parents=True, exist_ok=True)
        for failure in report.failures:
            number = int(failure.split()[1].rstrip(":"))
            write_file(name, number, keep / f"{name}-{number}", seed=seed)
    report.files += (mutations if ended else at + 1) - first
    return mutations if ended else at + 1


def write_file(name: str, number: int, folder: Path, *, seed: int, seeds: list[dict[str, bytes]] | None = None) -> None:
    """Write the files of one mutation into a folder, which is removed first."""
    from tests.fuzz.formats import FORMATS  # here, as the parent needs none of the readers
    from tests.fuzz.mutations import mutated

    draw = random.Random(f"{seed} {name} {number}")
    seeds = FORMATS[name].seeds() if seeds is None else seeds
    files, still = draw.choice(seeds), FORMATS[name].still
    chosen = draw.choice([file for file in files if not file.startswith(still)] if still else list(files))
    shutil.rmtree(folder, ignore_errors=True)
    for file, data in files.items():
        path: Path | bytes = folder / file
        if file == chosen:
            data = mutated(data, draw, other=draw.choice(list(files.values())))
            if name == "folder":
                path = os.fsencode(folder / file) + bytes(draw.choices(range(1, 256), k=8)).replace(b"/", b"")
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "wb") as target:
            target.write(data)


def _child(name: str, folder: Path, *, first: int, mutations: int, seed: int) -> None:
    from tests.fuzz.formats import FORMATS  # here, as the parent needs none of the readers

    form = FORMATS[name]
    seeds = form.seeds()
    for number, files in enumerate(seeds):  # valid files, unlimited: imports and thread pools come with them
        for file, data in files.items():
            path = folder / f"valid-{number}" / file
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)
        with suppress(*form.errors):
            form.read(folder / f"valid-{number}")
    events: list[str] = []
    sys.addaudithook(lambda event, arguments: events.append(event) if event.startswith(EXECUTING) else None)
    signal.signal(signal.SIGALRM, _too_slow)
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + MEMORY, resource.RLIM_INFINITY))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    progress = os.open(folder / "progress", os.O_WRONLY)
    refused, slowest, failures = 0, 0.0, 0
    for number in range(first, mutations):
        os.pwrite(progress, b"%-12d" % number, 0)
        write_file(name, number, folder / "files", seed=seed, seeds=seeds)
        start = time.monotonic()
        what, error = _read(form, folder / "files")
        slowest = max(slowest, time.monotonic() - start)
        refused += error
        if events:
            what = f"executed {events[0]}"
            events.clear()
        if what is not None:
            failures += 1
            print(json.dumps({"number": number, "what": what}), flush=True)
        if failures == MAX_FAILURES:
            break
    print(json.dumps({"files": number + 1 - first, "refused": refused, "slowest": slowest}), flush=True)


def _read(form: Any, folder: Path) -> tuple[str | None, bool]:
    """What went wrong, or None, and whether the reader refused the files."""
    signal.setitimer(signal.ITIMER_REAL, SECONDS)
    try:
        form.read(folder)
    except form.errors as error:
        return (f"not one line: {error!r}"[:300] if "\n" in str(error) else None), True
    except BaseException as error:
        if isinstance(error, KeyboardInterrupt):
            raise
        place = traceback.extract_tb(error.__traceback__)[-4:]
        where = " < ".join(f"{Path(frame.filename).name}:{frame.lineno}" for frame in reversed(place))
        return f"{type(error).__name__}: {str(error)[:160]!r} at {where}", False
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
    return None, False


def _too_slow(number: int, frame: FrameType | None) -> None:
    raise TooSlowError(f"more than {SECONDS} s")


def _rounds(names: list[str], mutations: int) -> Iterator[tuple[str, int]]:
    """The formats, each with its equal part of the mutations."""
    for place, name in enumerate(names):
        yield name, mutations * (place + 1) // len(names) - mutations * place // len(names)


def main() -> int:
    """Print a line per format and every failure; returns 0 if there is none."""
    parser = argparse.ArgumentParser(prog="fuzz", description="Read mutated files of every format.")
    parser.add_argument("--mutations", type=int, default=10_000, help="files in all (default: 10000)")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--only", nargs="*", default=None, metavar="FORMAT")
    parser.add_argument("--keep", type=Path, default=None, metavar="FOLDER", help="write files that fail here")
    parser.add_argument("--child", help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--first", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        _child(options.child, options.folder, first=options.first, mutations=options.mutations, seed=options.seed)
        return 0
    from tests.fuzz.formats import FORMATS  # here, as it is slow to import

    failures: list[str] = []
    for name, count in _rounds(options.only or list(FORMATS), options.mutations):
        report = fuzz(name, mutations=count, seed=options.seed, keep=options.keep)
        failures += report.failures
        print(
            f"{name:12} {report.files:7} files, {report.refused:7} refused, {len(report.failures)} failures, "
            f"{report.seconds:.0f} s, slowest {report.slowest:.2f} s",
            flush=True,
        )
        for failure in report.failures:
            print(f"  {failure}", flush=True)
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
