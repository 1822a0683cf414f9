"""Convert-benchmarks: insightface's `.bin` files and pair lists, each read and checked once, as private tars and pairs.

A benchmark that is missing, or of which one image is not usable, ends the stage: nothing is ever skipped.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, model_validator

from jobs.frame.errors import ConfigError
from jobs.frame.run import Run
from jobs.frame.stage import Stage
from jobs.frame.stage_config import FILE_NAME, PathText, StageConfig
from jobs.frame.unit import Unit
from shards.errors import DataError
from shards.small_files import read_lines
from shards.sources.benchmarks.image_files import ImageSource
from shards.sources.benchmarks.pair_lists import MAX_BYTES, PairList, read_pairs
from slurm.files import digest, sha256_of

NAME = "convert-benchmarks"

BenchmarkName = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9_]*$", max_length=40), FILE_NAME]


class BenchmarkSource(BaseModel):
    """A `.bin` file; or a list of pairs, and the folder or tar with its images."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    bin: PathText | None = Field(
        None,
        description=(
            "Benchmark file of insightface (.bin), which holds images and pairs. Give it, or `pairs` and `images`."
        ),
    )
    pairs: PathText | None = Field(
        None,
        description="List of pairs: columns a, b, same and perhaps fold, or one of LFW's own lists. Needs `images`.",
    )
    images: PathText | None = Field(None, description="Folder or tar with the images that `pairs` names.")
    prefix: str = Field("", description="Text put before every path of the list, e.g. lfw/.")
    extension: str = Field(
        ".jpg", description="File extension of the images, for LFW's own lists, which give people and numbers only."
    )

    @model_validator(mode="after")
    def _check(self) -> BenchmarkSource:
        listed = self.pairs is not None and self.images is not None
        if (self.bin is None) != listed or (self.bin is not None and (self.pairs or self.images)):
            raise ValueError("bin: got neither or both; allowed: bin, or pairs together with images")
        return self


class ConvertBenchmarks(StageConfig):
    """Which verification benchmarks there are, and their image size."""

    sources: dict[BenchmarkName, BenchmarkSource] = Field(
        min_length=1,
        description=(
            "Benchmarks by name (lower-case letters, digits and underscores), each a .bin file or a list of "
            "pairs with its images. A missing file is an error."
        ),
    )
    image_size: int = Field(
        112, ge=16, le=1024, description="Side of the square images in pixels. 112 is that of insightface's files."
    )
    resize: Literal["never", "center", "pad"] = Field(
        "never",
        description=(
            "What to do with images of another size: never refuses them, center crops the middle square and "
            "resizes, pad adds borders and resizes."
        ),
    )


@dataclass(frozen=True, kw_only=True)
class BenchmarkUnit(Unit):
    """A benchmark, and digests of what it is made from: its `.bin` file, or its list of pairs and its images."""

    benchmark: str
    bin: str | None = None
    pairs: str | None = None
    images: str | None = None


def plan(run: Run) -> list[BenchmarkUnit]:
    """One unit per benchmark, named by what it is made from.

    Raises:
        ConfigError: a file or folder is not there.
        DataError: a list that does not parse, or names an image that is not there.
    """
    config: ConvertBenchmarks = run.section(ConvertBenchmarks)
    units: list[BenchmarkUnit] = []
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
            images, listed = listed_pairs(run, source)
            paths = sorted({*listed.first, *listed.second})
            made_from = {
                "pairs": digest(asdict(listed)),
                "images": digest([[path, images.size(path)] for path in paths]),
            }
        units.append(BenchmarkUnit(benchmark=name, **made_from))
    return units


def listed_pairs(run: Run, source: BenchmarkSource) -> tuple[ImageSource, PairList]:
    """The images and the list of pairs, of full paths."""
    assert source.pairs is not None
    assert source.images is not None
    path = run.path(source.pairs)
    try:
        text = read_lines(path, limit=MAX_BYTES)
    except FileNotFoundError as error:
        raise DataError(f"{path}: not a text file ({error})") from None
    listed = read_pairs(text, name=str(path), extension=source.extension)
    whole = {side: [source.prefix + name for name in getattr(listed, side)] for side in ("first", "second")}
    return ImageSource(run.path(source.images)), type(listed)(**{**vars(listed), **whole})


STAGE = Stage(
    unit=BenchmarkUnit,
    name=NAME,
    title="verification benchmarks, read and checked once, as private tars and pairs",
    config=ConvertBenchmarks,
    needs=lambda run: (),
    plan=plan,
    work="jobs.stages.convert_benchmarks.work",
)
