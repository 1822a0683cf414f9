"""Candidates: faces of the generator, of which only latents, attributes and embeddings are kept.

The candidate with number k follows from (seed, k) alone. Pictures of the chosen ones are made again later.
"""

from __future__ import annotations

from dataclasses import dataclass

from pydantic import Field

from jobs.frame.run import Run
from jobs.frame.stage import Cost, Stage
from jobs.frame.stage_config import PathText, StageConfig, as_before, operational
from jobs.frame.unit import Unit
from jobs.methods.gandiffface.attributes.plan import card_files
from jobs.methods.gandiffface.train_gan.plan import NAME as TRAIN_GAN
from jobs.stages.shared.embedder import embedder_needs
from slurm.files import sha256_of

NAME = "candidates"
BYTES_PER_CANDIDATE = 4 * (512 + 512 + 16)  # latent, embedding, attributes


class MakeCandidates(StageConfig):
    """How many faces the identities are chosen from, and how they are measured."""

    generator: PathText | None = Field(
        None,
        description=(
            "Generator to take, a file of `train-gan` or of `cemiface import-generator`. null: the run's own, of the "
            "stage train-gan."
        ),
    )
    align: bool = Field(
        False,
        description=(
            "Whether the generator's pictures are not on the ArcFace template, as those of StyleGAN nets trained on "
            "FFHQ. The face is then found and cut out at shard.image_size; where there is none, its face presence is "
            "0. Costs about 0.03 CPU seconds per picture."
        ),
        json_schema_extra=as_before(False),
    )
    count: int = Field(
        100_000,
        ge=1,
        description=(
            "Candidates. Rare cells need many: of 100,000 StyleGAN3 faces 2 % are happy and Black (arXiv 2302.00908). "
            "The released set's identities have numbers up to 10 million."
        ),
    )
    block: int = Field(1000, ge=1, description="Candidates per unit of work.")
    truncation: float = Field(
        0.7,
        ge=0,
        le=1,
        description=(
            "Truncation psi: 1 is the full range of faces; lower moves latents toward the mean face, which looks "
            "better and varies less. The paper does not state it."
        ),
    )
    batch: int = Field(
        32, ge=1, description="Faces made at once by each rank; another batch size may round differently."
    )
    images_per_second: float | None = Field(
        None,
        gt=0,
        description="Throughput of one GPU, which `cemiface plan` estimates GPU hours from. null: no estimate.",
        json_schema_extra=operational(),
    )


@dataclass(frozen=True, kw_only=True)
class CandidatesUnit(Unit):
    """The candidates `start` to `stop` - 1, in the file `table`."""

    start: int
    stop: int
    table: str


def plan(run: Run) -> list[CandidatesUnit]:
    """Blocks of candidate numbers."""
    config = run.section(MakeCandidates)
    return [
        CandidatesUnit(start=start, stop=min(start + config.block, config.count), table=f"candidates-{number:05d}.h5")
        for number, start in enumerate(range(0, config.count, config.block))
    ]


def needs(run: Run) -> tuple[str, ...]:
    own = () if run.section(MakeCandidates).generator else (TRAIN_GAN,)
    return (*own, *embedder_needs(run))


def files(run: Run) -> dict[str, str]:
    """The hashes of the given generator and the given attribute nets.

    Raises:
        ConfigError: one of them does not exist.
    """
    config, found = run.section(MakeCandidates), card_files(run)
    if config.generator:
        path = run.given_file(f"{NAME}.generator", config.generator, give="a generator that train-gan wrote")
        found[f"{NAME}.generator"] = sha256_of(path)
    return found


def cost(run: Run) -> Cost:
    """GPU hours at the config's throughput; disk for the tables."""
    config = run.section(MakeCandidates)
    rate = config.images_per_second
    return Cost(gpu_hours=config.count / rate / 3600 if rate else None, disk_bytes=config.count * BYTES_PER_CANDIDATE)


STAGE = Stage(
    unit=CandidatesUnit,
    name=NAME,
    title="faces of the generator, measured, to choose identities from",
    config=MakeCandidates,
    needs=needs,
    files=files,
    plan=plan,
    work="jobs.methods.gandiffface.candidates.work",
    expected_images=lambda run: run.section(MakeCandidates).count,
    cost=cost,
)
