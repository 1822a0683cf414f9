"""The work of convert-benchmarks: read a benchmark, check every image, write a tar and its pairs."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from jobs.frame.rank import Rank
from jobs.frame.run import Run
from jobs.frame.stage import Finish
from jobs.stages.convert_benchmarks.plan import NAME, BenchmarkSource, BenchmarkUnit, ConvertBenchmarks, listed_pairs
from jobs.stages.shared.tars import publishing_tar
from jobs.stages.shared.verification import check_folds, verifications
from shards.errors import DataError
from shards.images.prepare import prepare
from shards.images.rules import ImageRules
from shards.small_files import read_whole
from shards.sources.benchmarks.bin_file import MAX_BYTES, read_bin
from shards.tars.records import REAL
from slurm.markers import Marker

QUALITY = 100  # of images that are not JPEG yet; the JPEGs of the common benchmarks keep their bytes


@dataclass(frozen=True, kw_only=True)
class Pairs:
    """Rows of the tar that make a pair, whether of one person, and in how many folds (None: not given)."""

    first: list[int]
    second: list[int]
    same: list[bool]
    folds: int | None


def run_rank(run: Run, rank: Rank) -> None:
    config: ConvertBenchmarks = run.section(ConvertBenchmarks)
    for work in rank.remaining(BenchmarkUnit):
        name = work.unit.benchmark
        images, pairs = _read(run, config.sources[name])
        with publishing_tar(work.path(f"{name}.tar"), record=work.record, private=True) as tar:
            for row, (path, data) in enumerate(images):
                jpeg = _usable(data, config=config, what=f"{name}: {path}")
                tar.add(f"{row:06d}", jpg=jpeg, record={"identity": f"{row:06d}", "source": path, "origin": REAL})
                work.progress()
        work.publish(f"{name}.json", (json.dumps(asdict(pairs)) + "\n").encode())
        mated = sum(pairs.same)
        work.done(
            images=len(images),
            counts={"converted": len(images)},
            figures={"benchmark": name, "pairs": len(pairs.same), "mated": mated, "images": len(images)},
        )


def _read(run: Run, source: BenchmarkSource) -> tuple[list[tuple[str, bytes]], Pairs]:
    """The distinct images with where they came from, and the pairs as rows of them."""
    if source.bin is not None:
        path = run.path(source.bin)
        found = read_bin(read_whole(path, limit=MAX_BYTES), name=str(path))
        rows: dict[bytes, int] = {}  # an image is in many pairs, and in the file as often
        places = [rows.setdefault(image, len(rows)) for image in found.images]
        at = {row: place for place, row in reversed(list(enumerate(places)))}
        return [(f"image {at[row]}", image) for image, row in rows.items()], Pairs(
            first=places[::2], second=places[1::2], same=found.same, folds=None
        )
    files, listed = listed_pairs(run, source)
    paths = sorted({*listed.first, *listed.second})
    row_of = {path: row for row, path in enumerate(paths)}
    return [(path, files.read(path)) for path in paths], Pairs(
        first=[row_of[path] for path in listed.first],
        second=[row_of[path] for path in listed.second],
        same=listed.same,
        folds=listed.folds,
    )


def _usable(data: bytes, *, config: ConvertBenchmarks, what: str) -> bytes:
    prepared = prepare(data, rules=ImageRules(size=config.image_size, resize=config.resize, quality=QUALITY))
    if prepared.jpeg is None:
        raise DataError(
            f"{what}: {prepared.outcome}: {prepared.detail}; a benchmark is used whole or not at all: fix the file, "
            f"or set {NAME}.image_size and {NAME}.resize to what it holds"
        )
    return prepared.jpeg


def finish(run: Run, markers: Sequence[Marker]) -> Finish:
    """What was converted. Folds that nets could not be verified on are refused now, and not after their training."""
    folder = run.stage_folder(NAME)
    for marker in markers:
        name = marker.figures["benchmark"]
        stored: Any = json.loads(folder.output(f"{name}.json").read_bytes())
        for verification in verifications(run):
            check_folds(stored["same"], folds=stored["folds"] or verification.folds, benchmark=name)
    return Finish(figures={marker.figures["benchmark"]: marker.figures for marker in markers})
