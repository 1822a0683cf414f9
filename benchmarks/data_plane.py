"""Sharding, verifying and loading faces: this project beside tar, tarfile, webdataset and img2dataset.

Each contender processes the same faces in a process of its own, one after the other, for several rounds. Measured are
the CPU seconds of that process and its children, without imports. Ratios are medians over the rounds of (peer / ours)
within a round: above 1, ours is cheaper. Every contender reads its files once before, so that no disk is measured.

- shard, ours: list the folder, check every image through its whole entropy code (decoded at an eighth of the size),
  sha256, JSON record, index, manifest, fsync, marker
- shard, webdataset: `ShardWriter` with its defaults, and with mtime=0; jpg and json, no check, no hash, no fsync
- shard, img2dataset: from file:// addresses, one process, one thread (needs --img2dataset), with
  image_size=112 (it resizes and encodes every image again), and with the option to store the bytes as they are. It
  starts processes of its own, whose imports count, so the cost of a run of one image is subtracted
- verify: ours checks the manifest and hashes all bytes; the peers are sha256sum, `tar tf`, and reading every sample
- load: three passes over all images as uint8 batches of 256, one decoding thread; ours shuffled by seed, the peers
  in tar order. The peers read the tars that webdataset writes by default (a PAX header per member), and ours, which
  cost them less. Decode only is a bare loop over images in memory, into an array for each as the codec makes it, and
  into a batch like ours (see `shards.images.jpeg.empty_images`)
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Callable, Iterator
from io import BytesIO
from itertools import cycle
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
BATCH, PER_TAR = 256, 10_000
AS_IT_COMES, AS_THEY_ARE = "img2dataset as it comes", "img2dataset, bytes as they are"
ITS_START = "img2dataset, its start"
IMG2DATASET = (AS_IT_COMES, AS_THEY_ARE, ITS_START)
PASSES = 3  # over the images when loading, so that what is decoded ahead and thrown away at the end weighs little


def cpu_seconds() -> float:
    """Of this process and of its children that have ended."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(one.ru_utime + one.ru_stime for one in used)


def listed(faces: Path) -> list[tuple[str, str]]:
    """Identity and path of every image, as a plain script would list them."""
    return [
        (os.path.basename(folder), os.path.join(folder, name))
        for folder, _, names in sorted(os.walk(faces))
        for name in sorted(names)
    ]


def read(path: str) -> bytes:
    with open(path, "rb") as file:
        return file.read()


def record(identity: str, path: str, index: int) -> dict[str, object]:
    """The record that all contenders write with an image."""
    return {"identity": identity, "source": path[-40:], "index": index, "outcome": "kept"}


def shard_ours(faces: Path, work: Path) -> Callable[[], int]:
    from jobs.frame.experiment import load_run
    from jobs.frame.methods import find_method
    from jobs.frame.rank import Rank
    from jobs.frame.summary import finish_if_last
    from slurm.files import publish
    from slurm.ranks.heartbeat_writer import HeartbeatWriter
    from slurm.ranks.stop import StopFlag
    from slurm.ranks.worker import this_worker

    config = work / "bench.yaml"
    config.write_text(f"name: bench\nshard: {{faces: {json.dumps(str(faces))}, shard_images: {PER_TAR}}}\n")

    def run() -> int:
        run, stage = load_run(config), find_method("cemiface").chain["shard"]
        run.folder.create()
        folder = run.stage_folder("shard")
        for name, data in run.ledger.plan("shard").files.items():
            publish(folder.output(name), data)
        heartbeat = HeartbeatWriter(folder, worker=this_worker(0))
        rank = Rank(run=run, stage=stage, index=0, count=1, stop=StopFlag(), heartbeat=heartbeat)
        stage.run_rank(run, rank)
        assert finish_if_last(run, stage)
        return rank.images

    return run


def shard_webdataset(faces: Path, work: Path, **options: float) -> Callable[[], int]:
    import webdataset

    def run() -> int:
        pattern = str(work / "wds-%05d.tar")
        with webdataset.ShardWriter(pattern, maxcount=PER_TAR, maxsize=1e12, verbose=0, **options) as writer:
            for index, (identity, path) in enumerate(listed(faces)):
                sample = {"jpg": read(path), "json": record(identity, path, index)}
                writer.write({"__key__": f"{index:09d}", **sample})
        return index + 1

    return run


def shard_tarfile(faces: Path, work: Path) -> Callable[[], int]:
    def run() -> int:
        with tarfile.open(work / "plain.tar", "w", format=tarfile.USTAR_FORMAT) as archive:
            for index, (identity, path) in enumerate(listed(faces)):
                text = json.dumps(record(identity, path, index)).encode()
                for name, data in ((f"{index:09d}.jpg", read(path)), (f"{index:09d}.json", text)):
                    header = tarfile.TarInfo(name)
                    header.size = len(data)
                    archive.addfile(header, BytesIO(data))
        return index + 1

    return run


def shard_tar(faces: Path, work: Path) -> Callable[[], int]:
    def run() -> int:
        subprocess.run(["tar", "cf", work / "gnu.tar", faces], check=True, stderr=subprocess.DEVNULL)
        return len(listed(faces))

    return run


def shard_img2dataset(
    faces: Path, work: Path, python: str, *, only_start: bool = False, as_they_are: bool = False
) -> Callable[[], int]:
    def run() -> int:
        paths = listed(faces)
        done = paths[:1] if only_start else paths
        (work / "urls.txt").write_text("".join(f"file://{path}\n" for _, path in done))
        as_stored = " resize_mode='no', skip_reencode=True," if as_they_are else ""
        code = (
            "from img2dataset import download\n"
            f"download(url_list={str(work / 'urls.txt')!r}, output_folder={str(work / 'img2dataset')!r},"
            " output_format='webdataset', input_format='txt', processes_count=1, thread_count=1, image_size=112,"
            f"{as_stored} number_sample_per_shard={PER_TAR}, enable_wandb=False)\n"
        )
        subprocess.run([python, "-c", code], check=True, capture_output=True, cwd=work)
        return len(paths)

    return run


def theirs_of(tars: Path) -> Path:
    """The folder with the same set as webdataset writes it; not beside ours, where other tars would be a mistake."""
    return tars.with_name("webdataset")


def samples_of(tars: Path) -> int:
    samples: int = json.loads((tars / "manifest.json").read_text())["totals"]["samples"]
    return samples


def verify_ours(tars: Path, work: Path) -> Callable[[], int]:
    from shards.exports.check import check
    from shards.tars.manifest import read_manifest

    def run() -> int:
        manifest = read_manifest(tars / "manifest.json")
        assert check(tars, manifest) == []
        return manifest.totals.samples

    return run


def verify_sha256sum(tars: Path, work: Path) -> Callable[[], int]:
    def run() -> int:
        subprocess.run(["sha256sum", *sorted(tars.glob("*.tar"))], check=True, stdout=subprocess.DEVNULL)
        return samples_of(tars)

    return run


def verify_tar(tars: Path, work: Path) -> Callable[[], int]:
    def run() -> int:
        for path in sorted(tars.glob("*.tar")):
            subprocess.run(["tar", "tf", path], check=True, stdout=subprocess.DEVNULL)
        return samples_of(tars)

    return run


def verify_scan(tars: Path, work: Path) -> Callable[[], int]:
    from shards.tars.reader import read_tar

    def run() -> int:
        return sum(1 for path in sorted(tars.glob("*.tar")) for _ in read_tar(path))

    return run


def load_ours(tars: Path, work: Path, *, flip: bool = False) -> Callable[[], int]:
    from shards.tars.loader import batches
    from shards.tars.shard_set import ShardSet

    def run() -> int:
        shards = ShardSet(sorted(tars.glob("*.tar")))
        stream = batches(shards, batch=BATCH, seed=1, start=0, flip=flip, threads=1)
        images = sum(len(next(stream).images) for _ in range(PASSES * len(shards) // BATCH))
        stream.close()
        return images

    return run


def _webdataset(tars: Path) -> Any:
    import webdataset

    paths = [str(path) for path in sorted(tars.glob("*.tar"))]
    return webdataset.WebDataset(paths, shardshuffle=False, empty_check=False)


def load_webdataset_rgb8(tars: Path, work: Path) -> Callable[[], int]:
    dataset = _webdataset(tars).decode("rgb8").to_tuple("jpg", "json").batched(BATCH, partial=False)
    return lambda: sum(len(images) for _ in range(PASSES) for images, _ in dataset)


def load_webdataset_simplejpeg(tars: Path, work: Path) -> Callable[[], int]:
    import simplejpeg

    def decode(jpg: bytes) -> object:
        return simplejpeg.decode_jpeg(jpg, colorspace="RGB")

    samples = _webdataset(tars).to_tuple("jpg", "json").map_tuple(decode, json.loads)
    dataset = samples.batched(BATCH, partial=False)
    return lambda: sum(len(images) for _ in range(PASSES) for images, _ in dataset)


def load_tarfile_simplejpeg(tars: Path, work: Path) -> Callable[[], int]:
    import numpy as np
    import simplejpeg

    def run() -> int:
        images, rows = 0, []
        for path in PASSES * sorted(tars.glob("*.tar")):
            with tarfile.open(path) as archive:
                for member in archive:
                    content = archive.extractfile(member)
                    if content and member.name.endswith(".jpg"):
                        rows.append(simplejpeg.decode_jpeg(content.read(), colorspace="RGB"))
                    if len(rows) == BATCH:
                        images += len(np.stack(rows))
                        rows = []
        return images

    return run


def load_decode_only(tars: Path, work: Path, *, into_batch: bool = False) -> Callable[[], int]:
    import simplejpeg

    from shards.images.jpeg import empty_images
    from shards.tars.shard_set import ShardSet

    shards = ShardSet(sorted(tars.glob("*.tar")))
    data = [shards.jpeg(index) for index in range(len(shards))]
    batch = empty_images(BATCH, *shards.rgb(0).shape)
    rows: list[Any] = list(batch) if into_batch else [None]

    def run() -> int:
        for jpeg, row in zip(PASSES * data, cycle(rows), strict=False):
            simplejpeg.decode_jpeg(jpeg, colorspace="RGB", buffer=row)
        return PASSES * len(data)

    return run


CONTENDERS: dict[str, dict[str, Callable[..., Callable[[], int]]]] = {
    "shard": {
        "ours": shard_ours,
        "webdataset as it comes": shard_webdataset,
        "webdataset mtime=0": lambda faces, work: shard_webdataset(faces, work, mtime=0),
        "Python tarfile": shard_tarfile,
        "tar cf (no records)": shard_tar,
        AS_IT_COMES: shard_img2dataset,
        AS_THEY_ARE: lambda faces, work, python: shard_img2dataset(faces, work, python, as_they_are=True),
        ITS_START: lambda faces, work, python: shard_img2dataset(faces, work, python, only_start=True),
    },
    "verify": {
        "ours": verify_ours,
        "ours, all members and records": verify_scan,
        "sha256sum": verify_sha256sum,
        "tar tf (no hash)": verify_tar,
    },
    "load": {
        "ours": load_ours,
        "ours with random flips": lambda tars, work: load_ours(tars, work, flip=True),
        "webdataset rgb8": lambda tars, work: load_webdataset_rgb8(theirs_of(tars), work),
        "webdataset with simplejpeg": lambda tars, work: load_webdataset_simplejpeg(theirs_of(tars), work),
        "webdataset rgb8, our tars": load_webdataset_rgb8,
        "webdataset with simplejpeg, ours": load_webdataset_simplejpeg,
        "tarfile with simplejpeg, ours": load_tarfile_simplejpeg,
        "decode only": load_decode_only,
        "decode only, into a batch like ours": lambda tars, work: load_decode_only(tars, work, into_batch=True),
    },
}


def contend(task: str, name: str, source: Path, *, more: list[str]) -> float:
    """Run one contender in this process; returns microseconds of CPU per image."""
    with tempfile.TemporaryDirectory(prefix="bench-") as work:
        run = CONTENDERS[task][name](source, Path(work), *more)
        for _, path in listed(source):  # fills the page cache, so the first contender has no disadvantage
            read(path)
        before = cpu_seconds()
        images = run()
        return (cpu_seconds() - before) / max(images, 1) * 1e6


def rounds(task: str, source: Path, *, count: int, python: str | None) -> Iterator[dict[str, float]]:
    """One figure of each contender per round."""
    for _ in range(count):
        figures = {}
        for name in CONTENDERS[task]:
            needs_python = name in IMG2DATASET
            if needs_python and not python:
                continue
            more = [python] if needs_python and python else []
            command = [sys.executable, "-m", "benchmarks.data_plane", str(source), "--as", task, name, *more]
            done = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True)
            figures[name] = float(done.stdout)
        if ITS_START in figures:
            for name in (AS_IT_COMES, AS_THEY_ARE):
                figures[f"{name}, without its start"] = figures[name] - figures[ITS_START]
        yield figures


def report(task: str, figures: list[dict[str, float]]) -> None:
    print(f"\n{task:46} us/image   least    most   x ours   least    most")
    for name in figures[0]:
        cost = [one[name] for one in figures]
        ratio = [one[name] / one["ours"] for one in figures]
        print(
            f"  {name:44} {statistics.median(cost):8.1f} {min(cost):7.1f} {max(cost):7.1f}"
            f" {statistics.median(ratio):8.2f} {min(ratio):7.2f} {max(ratio):7.2f}"
        )


def make_tars(faces: Path, target: Path) -> Path:
    """The set that is verified and loaded: ours, with webdataset's beside it."""
    target.mkdir()
    shard_ours(faces, target)()
    tars = target / "runs" / "bench" / "shard"
    theirs_of(tars).mkdir()
    shard_webdataset(faces, theirs_of(tars))()
    return tars


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("faces", type=Path, help="a folder of identity folders of 112x112 JPEG crops")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--tasks", nargs="+", default=list(CONTENDERS), choices=list(CONTENDERS))
    parser.add_argument("--img2dataset", metavar="PYTHON", help="an interpreter that has img2dataset")
    parser.add_argument("--as", nargs="+", dest="contender", help=argparse.SUPPRESS)
    options = parser.parse_args()
    os.umask(0o077)
    if options.contender:
        task, name, *more = options.contender
        print(contend(task, name, options.faces.absolute(), more=more))
        return
    started = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        tars = make_tars(options.faces.absolute(), Path(folder) / "set")
        for task in options.tasks:
            source = options.faces.absolute() if task == "shard" else tars
            report(task, list(rounds(task, source, count=options.rounds, python=options.img2dataset)))
    print(f"\n{time.monotonic() - started:.0f} s")


if __name__ == "__main__":
    main()
