"""Generate: images of every inquiry identity at wished similarities, one tar per block of identities.

A tar is a pure function of (config, seed): every image has its own noise generator, and batches are cut at the tar's
start, so that the bytes are the same for any number of ranks.
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
    images_per_identity: int = Field(50, ge=1)
    # The last so many identities get only so many images: the paper's 1.2M set is 20,000 x 50 and 40,000 x 5.
    few_identities: int = Field(0, ge=0)
    few_images: int = Field(5, ge=1)
    similarity: tuple[Annotated[float, Field(ge=-1, le=1)], ...] = Field((0.0,), min_length=1)  # taken in turn
    mixture: tuple[MixturePart, ...] = ()  # instead of `similarity`: parts with weights, each a grid, range or value
    # What the values above are: the m given to the net, or the cosine to the inquiry that the images shall have in
    # the mean. For cosines the stage `calibrate` measures which m does it.
    target: Literal["m", "cosine"] = "m"
    inquiry_copies: int = Field(0, ge=0)  # of the synthetic inquiry face, per identity (the paper: 5); never real ones
    identities_per_shard: int = Field(200, ge=1)
    encoders: int = Field(
        2, ge=1, json_schema_extra=operational()
    )  # threads that compress images while others are sampled

    @model_validator(mode="after")
    def _check_few(self) -> GenerateFaces:
        if self.few_identities and self.few_images > self.images_per_identity:
            raise ValueError(f"few_images: got {self.few_images}; allowed: 1 to images_per_identity")
        return self

    def images_of(self, identity: int, *, identities: int) -> int:
        """How many images are made of one of so many identities."""
        return self.few_images if identity >= identities - self.few_identities else self.images_per_identity


def plan(run: Run) -> list[SetUnit]:
    """One unit per tar: a block of identities.

    Raises:
        ConfigError: copies of inquiry faces are wished, and those may be real.
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


def needs(run: Run) -> tuple[str, ...]:
    calibrated = (CALIBRATE,) if run.section(GenerateFaces).target == "cosine" else ()
    return ("train-diffusion", "identities", *calibrated, *embedder_needs(run))


def expected_images(run: Run) -> int:
    config = run.section(GenerateFaces)
    people = run.section(MakeIdentities).count
    few = min(config.few_identities, people)
    return (people - few) * config.images_per_identity + few * config.few_images


def cost(run: Run) -> Cost:
    config = run.section(GenerateFaces)
    images = expected_images(run)
    copies = run.section(MakeIdentities).count * config.inquiry_copies
    return sampling_cost(run, config, images=images, stored=images + copies)


STAGE = Stage(
    unit=SetUnit,
    name="generate",
    title="synthetic faces at wished similarities, as tars",
    config=GenerateFaces,
    needs=needs,
    plan=plan,
    work="jobs.methods.cemiface.generate.work",
    expected_images=expected_images,
    cost=cost,
)
