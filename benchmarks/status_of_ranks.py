"""How long `status` takes for a stage of many ranks and units, a third of them done: wall and CPU seconds.

Compared with its floor on the same machine, interleaved: a Python process that lists the same folders and reads the
same files once, without looking into them. Everything is made in a temporary folder.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from jobs.config import load_run, save_run
from jobs.stage import Run
from slurm.files import publish_json

CONFIG = """
name: many
shard: {{faces: faces}}
embedder: {{weights: net.safetensors}}
embed: {{}}
train-diffusion: {{denoiser: {{preset: tiny32}}, images: 100}}
identities: {{source: denoiser, count: {units}, candidates: {units}}}
generate: {{images_per_identity: 10, identities_per_shard: 1}}
"""
FLOOR = """
import os, sys
for folder in sys.argv[1:]:
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.name.endswith(".json"):
                with open(entry.path, "rb") as file:
                    file.read()
"""


def make_run(root: Path, *, ranks: int, units: int) -> Path:
    """A run whose stage `generate` has `units` units, a third of them done, and `ranks` ranks that tell of it."""
    config = root / "configs" / "many.yaml"
    config.parent.mkdir()
    config.write_text(CONFIG.format(units=units))
    (root / "net.safetensors").touch()
    run = load_run(config)
    run.recorded = True
    run.folder.create()
    save_run(run)
    stage, folder = run.stages["generate"], run.stage_folder("generate")
    plan = [{"first": number, "last": number, "tar": f"synthetic-{number:05d}.tar"} for number in range(units)]
    publish_json(folder.plan, {"stage": "generate", "units": plan})
    _write_markers(run, plan[: units // 3])
    folder.beats.mkdir()
    for rank in range(ranks):
        beat = {"rank": rank, "host": "elsewhere", "pid": 1, "job": f"7_{rank}", "restarts": 0, "images": 10}
        beat |= {"time": time.time(), "started": time.time() - 60, "state": "done" if rank < ranks // 3 else "running"}
        folder.beat(rank).write_text(json.dumps(beat, indent=1))
    assert stage.name == "generate"
    return config


def _write_markers(run: Run, units: list[dict[str, object]]) -> None:
    folder = run.stage_folder("generate")
    folder.done.mkdir()
    common = run.fingerprint(run.stages["generate"], {})
    for number, unit in enumerate(units):
        folder.output(str(unit["tar"])).write_bytes(b"tar")
        marker = {
            "unit": number,
            "fingerprint": {**common, "unit": unit},
            "outputs": [{"name": unit["tar"], "bytes": 3, "sha256": "0" * 64}],
            "counts": {"generated": 10},
            "images": 10,
            "started": 0.0,
            "ended": 1.0,
            "worker": {"rank": number, "host": "elsewhere", "pid": 1, "job": f"7_{number}", "restarts": 0},
        }
        folder.marker(number).write_text(json.dumps(marker, indent=1))


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
        config = make_run(Path(name), ranks=options.ranks, units=options.units)
        folder = Path(name) / "runs" / "many" / "generate"
        commands = {
            "status": [sys.executable, "-m", "jobs", "status", str(config)],
            "reading the files": [
                sys.executable,
                "-c",
                FLOOR,
                str(folder / "done"),
                str(folder / "beats"),
                str(folder),
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
