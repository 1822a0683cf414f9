"""One million tiny images: time and memory of the commands that must stay fast for sets of any size.

Writes a RecordIO file of one million 16x16 images, then measures the real commands and calls, each in a process of its
own: CPU seconds, wall seconds, and the peak resident memory in MB (a process that only imports the packages has 60 to
100 MB).
"""

from __future__ import annotations

import argparse
import json
import os
import struct
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

ROOT = Path(__file__).parent.parent
MAGIC = 0xCED7230A
PER_PERSON = 40
CONFIG = "name: million\nshard: {{faces: {faces}, image_size: 16, shard_images: 10000}}\n"
INDEX = (
    "import sys, time\nfrom pathlib import Path\nfrom shards.tars.shard_set import ShardSet\n"
    "started = time.process_time()\nshards = ShardSet(sorted(Path(sys.argv[1]).glob('*.tar')))\n"
    "print(f'    of which the index of {len(shards)} images: {time.process_time() - started:.2f} s CPU')\n"
)
CHECK = (
    "import sys\nfrom pathlib import Path\nfrom shards.exports.check import check\n"
    "from shards.tars.manifest import read_manifest\n"
    "folder = Path(sys.argv[1])\nassert check(folder, read_manifest(folder / 'manifest.json')) == []\n"
)


def make_source(path: Path, *, images: int) -> None:
    """RecordIO without an index, written byte by byte."""
    from shards.images.jpeg import encode_jpeg

    draw = np.random.default_rng(0)
    pictures = [encode_jpeg(draw.integers(0, 256, (16, 16, 3), np.uint8), quality=60) for _ in range(100)]
    with path.open("wb") as file:
        for number in range(images):
            payload = struct.pack("<IfQQ", 0, number // PER_PERSON, number, 0) + pictures[number % len(pictures)]
            file.write(struct.pack("<II", MAGIC, len(payload)) + payload + bytes(-len(payload) % 4))


def measure(name: str, command: list[str]) -> None:
    """Run a command and print its time and memory."""
    started = time.monotonic()
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    _, status, used = os.wait4(process.pid, 0)
    seconds = time.monotonic() - started
    assert process.stdout
    details = [line.rstrip("\n") for line in process.stdout if line.startswith("    of which")]
    if status:
        raise SystemExit(f"{name}: failed")
    cpu = used.ru_utime + used.ru_stime
    print(f"{name:36}{cpu:8.1f} s CPU{seconds:8.1f} s{used.ru_maxrss / 1024:8.0f} MB", *details, sep="\n", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=1_000_000)
    options = parser.parse_args()
    os.umask(0o077)
    with tempfile.TemporaryDirectory(prefix="million-") as folder:
        source, config = Path(folder) / "train.rec", Path(folder) / "million.yaml"
        make_source(source, images=options.images)
        config.write_text(CONFIG.format(faces=json.dumps(str(source))))
        shard = Path(folder) / "runs" / "million" / "shard"
        cluster = Path(folder) / "one.yaml"
        cluster.write_text("array: {ranks: 1}\n")
        command = [sys.executable, "-m", "jobs"]
        at = [str(config), "--cluster", str(cluster)]
        measure("plan (dry run)", [*command, "plan", *at])
        measure("shard: launcher, rank, all images", [*command, "shard", *at])
        measure("shard again: nothing to do", [*command, "shard", *at])
        measure("status", [*command, "status", *at])
        measure("manifest check, all bytes hashed", [sys.executable, "-c", CHECK, str(shard)])
        measure("open the set", [sys.executable, "-c", INDEX, str(shard)])


if __name__ == "__main__":
    main()
