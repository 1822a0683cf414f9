"""Convert-benchmarks: insightface's `.bin` files and pair lists, each read and checked once, as private tars and pairs.

A benchmark that is missing, or of which one image is not usable, ends the stage: nothing is ever skipped.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, model_validator

from jobs.stage import Finish, PathText, Run, Stage, StageConfig, Unit
from jobs.tars import publishing_tar
from jobs.yaml_file import ConfigError
from shards.bin_file import read_bin
from shards.errors import DataError
from shards.image_source import ImageSource
from shards.images import ImageRules, prepare
from shards.pair_lists import read_pairs
from slurm.files import digest, sha256_of
from slurm.markers import Marker

if TYPE_CHECKING:
    from jobs.rank import Rank

NAME = "convert-benchmarks"
QUALITY = 100  # of the JPEG written for images that are none; those of the common benchmarks keep their bytes
BenchmarkName = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9_]*$", max_length=40)]


class BenchmarkSource(BaseModel):
    """A `.bin` file; or a list of pairs, and the folder or tar with its images."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    bin: PathText | None = None
    pairs: PathText | None = None
    images: PathText | None = None
    prefix: str = ""  # before every path of the list, e.g. "lfw/"
    extension: str = ".jpg"  # for LFW's own lists, which name people and numbers

    @model_validator(mode="after")
    def _check(self) -> BenchmarkSource:
        listed = self.pairs is not None and self.images is not None
        if (self.bin is None) != listed or (self.bin is not None and (self.pairs or self.images)):
            raise ValueError("bin: got neither or both; allowed: bin, or pairs together with images")
        return self


class ConvertBenchmarks(StageConfig):
    sources: dict[BenchmarkName, BenchmarkSource] = Field(min_length=1)
    image_size: int = Field(112, ge=16, le=1024)  # side of the square images, pixels
    resize: Literal["never", "center", "pad"] = "never"  # "never" refuses images of another size


@dataclass(frozen=True, kw_only=True)
class Pairs:
    """Rows of the tar that make a pair, whether of one person, and in how many folds (None: not said)."""

    first: list[int]
    second: list[int]
    same: list[bool]
    folds: int | None


def plan(run: Run) -> list[Unit]:
    """One unit per benchmark, named by what it is made from.

    Raises:
        ConfigError: a file or folder is not there.
        DataError: a list that does not parse, or names an image that is not there.
    """
    config: ConvertBenchmarks = run.section(NAME)
    units: list[Unit] = []
    for name, source in config.sources.items():
        for field in ("bin", "pairs", "images"):
            value = getattr(source, field)
            if value is not None and not run.path(value).exists():
                raise ConfigError(
                    f"{NAME}.sources.{name}.{field}: got {run.path(value)}, no such file; give it or drop {name}"
                )
        if source.bin is not None:
            made_from = {"bin": sha256_of(run.path(source.bin))}
        else:
            images, listed = _listed(run, source)
            paths = sorted({*listed.first, *listed.second})
            made_from = {
                "pairs": digest(asdict(listed)),
                "images": digest([[path, images.size(path)] for path in paths]),
            }
        units.append({"benchmark": name, **made_from})
    return units


def _listed(run: Run, source: BenchmarkSource) -> tuple[ImageSource, Any]:
    """The images and the list of pairs, of full paths."""
    assert source.pairs is not None
    assert source.images is not None
    path = run.path(source.pairs)
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: not a text file ({error})") from None
    listed = read_pairs(text, name=str(path), extension=source.extension)
    whole = {side: [source.prefix + name for name in getattr(listed, side)] for side in ("first", "second")}
    return ImageSource(run.path(source.images)), type(listed)(**{**vars(listed), **whole})


def run_rank(run: Run, rank: Rank) -> None:
    config: ConvertBenchmarks = run.section(NAME)
    for work in rank.remaining():
        name = work.unit["benchmark"]
        images, pairs = _read(run, config.sources[name])
        with publishing_tar(work.path(f"{name}.tar"), record=work.record) as tar:
            for row, (path, data) in enumerate(images):
                jpeg = _usable(data, config=config, what=f"{name}: {path}")
                tar.add(f"{row:06d}", jpg=jpeg, record={"identity": f"{row:06d}", "source": path})
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
        found = read_bin(path.read_bytes(), name=str(path))
        rows: dict[bytes, int] = {}  # an image is in many pairs, and in the file as often
        places = [rows.setdefault(image, len(rows)) for image in found.images]
        at = {row: place for place, row in reversed(list(enumerate(places)))}
        return [(f"image {at[row]}", image) for image, row in rows.items()], Pairs(
            first=places[::2], second=places[1::2], same=found.same, folds=None
        )
    files, listed = _listed(run, source)
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
            f"{what}: {prepared.outcome}: {prepared.detail}; a benchmark is used whole or not at all: mend the file, "
            f"or set {NAME}.image_size and {NAME}.resize to what it holds"
        )
    return prepared.jpeg


def finish(run: Run, markers: Sequence[Marker]) -> Finish:
    return Finish(figures={marker.figures["benchmark"]: marker.figures for marker in markers})


STAGE = Stage(
    name=NAME,
    title="verification benchmarks, read and checked once, as private tars and pairs",
    config=ConvertBenchmarks,
    needs=lambda run: (),
    plan=plan,
    run_rank=run_rank,
    finish=finish,
)
