"""Generate: sample images of every identity at the requested similarities, one tar per block of identities.

A tar is a pure function of (config, seed): every image has a noise generator of its own, and batches start at the first
image of the tar, so the bytes are the same for any number of ranks.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from cemiface.semihard.config import MixturePart
from jobs.frame.errors import ConfigError
from jobs.frame.products import SYNTHETIC
from jobs.frame.run import Run
from jobs.frame.stage import Cost, Stage
from jobs.frame.stage_config import operational
from jobs.frame.unit import SetUnit
from jobs.methods.cemiface.calibrate.plan import NAME as CALIBRATE
from jobs.methods.cemiface.identities.plan import MakeIdentities
from jobs.methods.cemiface.sampling import SamplingConfig, sampling_cost
from jobs.stages.shared.embedder import embedder_needs


class GenerateFaces(SamplingConfig):
    """How many images are made, and which similarities are requested."""

    images_per_identity: int = Field(
        50,
        ge=1,
        description=(
            "Images of each identity. The default is the paper's (section 4.1). 500,000 images at 112 px take "
            "about 8 hours of an A100 with 20 steps."
        ),
    )
    few_identities: int = Field(
        0,
        ge=0,
        description=(
            "Number of identities, the last ones, that get only `few_images` images. The paper's 1.2M set is "
            "20,000 x 50 and 40,000 x 5 (section 4.1)."
        ),
    )
    few_images: int = Field(
        5,
        ge=1,
        description=(
            "Images of each of the last `few_identities` identities, at most images_per_identity. The default "
            "is the paper's (section 4.1)."
        ),
    )
    similarity: tuple[Annotated[float, Field(ge=-1, le=1)], ...] = Field(
        (0.0,),
        min_length=1,
        description=(
            "Values that are requested, -1 to 1, taken in turn over the images of an identity. The default is "
            "the paper's m of all headline sets (section 4.1)."
        ),
    )
    mixture: tuple[MixturePart, ...] = Field(
        (), description="Replaces `similarity`: parts with weights, each a grid, a range or a single value."
    )
    target: Literal["m", "cosine"] = Field(
        "m",
        description=(
            "What the requested values are: the m given to the denoiser, or the mean cosine to the inquiry "
            "face that the images should have. cosine needs the stage calibrate, which measures the m for it."
        ),
    )
    inquiry_copies: int = Field(
        0,
        ge=0,
        description=(
            "Copies of the synthetic inquiry face added to each identity; the paper adds 5 (section 4.1). Not "
            "allowed with real inquiry faces: no real image is ever written into a synthetic set."
        ),
    )
    identities_per_shard: int = Field(
        200, ge=1, description="Identities per tar. A tar is one unit of work; smaller ones spread better over ranks."
    )
    encoders: int = Field(
        2,
        ge=1,
        description="Threads of each rank that compress images while others are sampled.",
        json_schema_extra=operational(),
    )

    @model_validator(mode="after")
    def _check_few(self) -> GenerateFaces:
        if self.few_identities and self.few_images > self.images_per_identity:
            raise ValueError(f"few_images: got {self.few_images}; allowed: 1 to images_per_identity")
        return self

    def images_of(self, identity: int, *, identities: int) -> int:
        """How many images are generated of an identity; `identities` is the number of all."""
        return self.few_images if identity >= identities - self.few_identities else self.images_per_identity


def plan(run: Run) -> list[SetUnit]:
    """One unit per tar: a block of identities.

    Raises:
        ConfigError: the config requests copies of inquiry faces, which may be real.
    """
    config = run.section(GenerateFaces)
    if config.inquiry_copies and not run.section(MakeIdentities).synthetic:
        raise ConfigError(
            f"generate.inquiry_copies: got {config.inquiry_copies} with inquiry faces of real people; allowed: 0, "
            "no real photo is ever written into a synthetic set; take identities.source: denoiser"
        )
    count = run.section(MakeIdentities).count
    starts = range(0, count, config.identities_per_shard)
    return [
        SetUnit(
            tar=f"{SYNTHETIC}-{number:05d}.tar",
            first=start,
            last=min(start + config.identities_per_shard, count) - 1,
        )
        for number, start in enumerate(starts)
    ]


def asked_values(run: Run) -> dict[str, set[float | str]]:
    """The similarities that images are asked for, as their records have them."""
    config = run.section(GenerateFaces)
    values = {value for part in config.mixture for value in part.values} or set(config.similarity)
    return {config.target: {round(value, 6) if config.target == "m" else value for value in values}}


def needs(run: Run) -> tuple[str, ...]:
    calibrated = (CALIBRATE,) if run.section(GenerateFaces).target == "cosine" else ()
    return ("train-diffusion", "identities", *calibrated, *embedder_needs(run))


def expected_images(run: Run) -> int:
    """Images of all identities, without copies of inquiry faces."""
    config = run.section(GenerateFaces)
    people = run.section(MakeIdentities).count
    few = min(config.few_identities, people)
    return (people - few) * config.images_per_identity + few * config.few_images


def cost(run: Run) -> Cost:
    """GPU hours of the sampled images; disk for those and the copies."""
    config = run.section(GenerateFaces)
    images = expected_images(run)
    copies = run.section(MakeIdentities).count * config.inquiry_copies
    return sampling_cost(run, config, images=images, stored=images + copies)


STAGE = Stage(
    unit=SetUnit,
    name="generate",
    title="synthetic faces at the requested similarities, as tars",
    config=GenerateFaces,
    needs=needs,
    plan=plan,
    work="jobs.methods.cemiface.generate.work",
    expected_images=expected_images,
    cost=cost,
)
