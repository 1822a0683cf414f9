"""Calibrate: which m gives which cosine to the inquiry face? A pilot over a grid of m, made monotone and inverted.

Runs where `generate` is asked for cosines instead of m. The same identities with the same noise at every m, so that
the curve shows m and not the luck of the draw.
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
    """A value of m that is tried."""

    m: float


def plan(run: Run) -> list[PilotUnit]:
    """One unit per m.

    Raises:
        ConfigError: nothing is generated that could be calibrated.
    """
    config = run.section(CalibrateFaces)
    if not run.asks_for("generate"):
        raise ConfigError("calibrate: measures how `generate` samples; add a section `generate:` or remove calibrate")
    return [PilotUnit(m=m) for m in config.grid.values]


def generating(run: Run) -> SamplingConfig:
    """How `generate` samples, which the curve is true for. Its module imports this one."""
    section = run.config.section("generate")
    assert isinstance(section, SamplingConfig)
    return section


def expected_images(run: Run) -> int:
    config = run.section(CalibrateFaces)
    pilots = min(config.identities, run.section(MakeIdentities).count) * config.images_per_identity
    return pilots * len(config.grid.values)


STAGE = Stage(
    unit=PilotUnit,
    name=NAME,
    title="which m gives which cosine to the inquiry: a pilot, its curve inverted",
    config=CalibrateFaces,
    needs=lambda run: ("train-diffusion", "identities", *embedder_needs(run)),
    # How generate samples is not in this stage's own section, but its curve is true for that alone.
    files=lambda run: {"generate": generating(run).sampling()} if run.asks_for("generate") else {},
    plan=plan,
    work="jobs.methods.cemiface.calibrate.work",
    expected_images=expected_images,
    cost=lambda run: sampling_cost(run, generating(run), images=expected_images(run), stored=0),
)
