"""Calibrate: measure the cosine to the inquiry face that each m gives, and invert the curve.

It is needed where the config requests cosines (`generate.target: cosine`). A pilot samples the same identities with the
same noise at every m of a grid, so that the differences between its points come from m alone.
"""

from __future__ import annotations

from dataclasses import dataclass

from pydantic import Field, model_validator

from cemiface.semihard.config import SimilarityGrid
from jobs.frame.errors import ConfigError
from jobs.frame.run import Run
from jobs.frame.stage import Stage
from jobs.frame.stage_config import StageConfig
from jobs.frame.unit import Unit
from jobs.methods.cemiface.identities.plan import MakeIdentities
from jobs.methods.cemiface.sampling import SamplingConfig, sampling_cost
from jobs.stages.shared.embedder import embedder_needs

NAME = "calibrate"


class CalibrateFaces(StageConfig):
    """The pilot that relates m to the cosine to the inquiry face."""

    identities: int = Field(
        200, ge=1, description="Inquiry faces that the pilot uses, the first ones; all where there are fewer."
    )
    images_per_identity: int = Field(
        2,
        ge=1,
        description=(
            "Images per identity at every m. The pilot costs identities x images_per_identity x values of m samples."
        ),
    )
    grid: SimilarityGrid = Field(SimilarityGrid(interval=0.1), description="Values of m that are tried; two or more.")

    @model_validator(mode="after")
    def _check(self) -> CalibrateFaces:
        if self.grid.interval is None or self.grid.low == self.grid.high:
            raise ValueError("grid: got no interval or one value; allowed: two values of m or more")
        return self


@dataclass(frozen=True, kw_only=True)
class PilotUnit(Unit):
    """The pilot at one m."""

    m: float


def plan(run: Run) -> list[PilotUnit]:
    """One unit per m.

    Raises:
        ConfigError: the config has no section `generate`.
    """
    config = run.section(CalibrateFaces)
    if not run.includes("generate"):
        raise ConfigError("calibrate: measures how `generate` samples; add a section `generate:` or remove calibrate")
    return [PilotUnit(m=m) for m in config.grid.values]


def sampling_of_generate(run: Run) -> SamplingConfig:
    """How `generate` samples: the curve holds for this alone."""
    # Found by name, as generate's plan imports this module.
    section = run.config.section("generate")
    assert isinstance(section, SamplingConfig)
    return section


def expected_images(run: Run) -> int:
    """Images of the pilot."""
    config = run.section(CalibrateFaces)
    pilots = min(config.identities, run.section(MakeIdentities).count) * config.images_per_identity
    return pilots * len(config.grid.values)


STAGE = Stage(
    unit=PilotUnit,
    name=NAME,
    title="a pilot that measures which m gives which cosine to the inquiry face",
    config=CalibrateFaces,
    needs=lambda run: ("train-diffusion", "identities", *embedder_needs(run)),
    # Not a field of this stage, but the curve depends on it.
    files=lambda run: {"generate": sampling_of_generate(run).sampling()} if run.includes("generate") else {},
    plan=plan,
    work="jobs.methods.cemiface.calibrate.work",
    expected_images=expected_images,
    cost=lambda run: sampling_cost(run, sampling_of_generate(run), images=expected_images(run), stored=0),
)
