"""Wall and CPU seconds of `status` for a stage of many ranks and units, a third of them done.

The lower bound is measured on the same machine, interleaved: a Python process that lists the same folders and reads
the same files once, without parsing them. All files are in a temporary folder.
"""

from __future__ import annotations

import argparse
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from tests.jobs.many_ranks import ManyRanks

FLOOR = """
import os, sys
for folder in sys.argv[1:]:
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.name.endswith(".json"):
                with open(entry.path, "rb") as file:
                    file.read()
"""


def make_run(root: Path, *, ranks: int, units: int) -> ManyRanks:
    """A run whose stage `generate` has `units` units, a third of them done, and `ranks` heartbeats."""
    many = ManyRanks.make(root, units=units)
    many.done(range(units // 3))
    for rank in range(ranks):
        many.heartbeat(rank, "done" if rank < ranks // 3 else "running", images=10)
    return many


def measure(command: list[str]) -> tuple[float, float]:
    """Wall and CPU seconds of a command."""
    before, started = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
    done = subprocess.run(command, stdout=subprocess.DEVNULL, check=False)
    seconds, after = time.monotonic() - started, resource.getrusage(resource.RUSAGE_CHILDREN)
    if done.returncode not in {0, 1, 3, 4}:
        sys.exit(f"{command} failed")
    return seconds, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--ranks", type=int, default=20_000, help="ranks with a heartbeat (default: 20000)")
    parser.add_argument("--units", type=int, default=20_000, help="units of the stage (default: 20000)")
    parser.add_argument("--repeats", type=int, default=5, help="runs of each, interleaved (default: 5)")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        many = make_run(Path(name), ranks=options.ranks, units=options.units)
        commands = {
            "status": [sys.executable, "-m", "jobs", "status", str(many.config)],
            "reading the files": [
                sys.executable,
                "-c",
                FLOOR,
                str(many.folder.done),
                str(many.folder.heartbeats),
                str(many.folder.root),
            ],
        }
        found: dict[str, list[tuple[float, float]]] = {title: [] for title in commands}
        for _ in range(options.repeats):
            for title, command in commands.items():
                found[title].append(measure(command))
    print(f"{options.ranks} ranks, {options.units} units, {options.repeats} runs each, {os.cpu_count()} cores")
    for title, values in found.items():
        walls, cpus = zip(*values, strict=True)
        print(
            f"{title:<18} wall s: median {statistics.median(walls):.2f}, {min(walls):.2f} to {max(walls):.2f}", end=""
        )
        print(f"; CPU s: median {statistics.median(cpus):.2f}, {min(cpus):.2f} to {max(cpus):.2f}")


if __name__ == "__main__":
    main()
