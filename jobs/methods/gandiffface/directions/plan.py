"""Directions: along which latents move so that one attribute of the face changes."""

from __future__ import annotations

from dataclasses import dataclass

from pydantic import Field

from jobs.frame.errors import ConfigError
from jobs.frame.run import Run
from jobs.frame.stage import Stage
from jobs.frame.stage_config import StageConfig
from jobs.frame.unit import Unit
from jobs.methods.gandiffface.candidates.plan import NAME as CANDIDATES
from jobs.methods.gandiffface.candidates.plan import MakeCandidates, check_measured

NAME = "directions"
DIRECTIONS = "directions.safetensors"


class FitDirections(StageConfig):
    """Which attributes get a direction, and how it is fitted."""

    attributes: tuple[str, ...] = Field(
        ("yaw", "pitch", "mouth", "smile", "age", "light"),
        min_length=1,
        description=(
            "Measured attributes that get a direction. The paper names pose, expression, age and light; it does not "
            "list them. A name that is no measured attribute is refused."
        ),
    )
    samples: int = Field(
        20_000, ge=200, description="Candidates, the first ones, that the directions are fitted and scored on."
    )
    ridge: float = Field(
        0.01,
        gt=0,
        description="Penalty of the ridge regression, as a share of the largest eigenvalue of the latents' covariance.",
    )
    min_correlation: float = Field(
        0.3,
        ge=0,
        le=1,
        description=(
            "Held-out correlation of an attribute and the position along its direction, below which the attribute is "
            "not edited."
        ),
    )


@dataclass(frozen=True, kw_only=True)
class DirectionsUnit(Unit):
    """The one file of directions."""

    file: str = DIRECTIONS


def check(run: Run) -> None:
    """Refuse directions for given faces.

    Raises:
        ConfigError: the faces are given.
    """
    if run.section(MakeCandidates).faces is not None:
        raise ConfigError(
            f"{NAME}: got a section with candidates.faces; allowed: none; given faces have no latent space"
        )


def check_launch(run: Run) -> None:
    """Refuse attributes that are not measured.

    Raises:
        ModelError: one is not.
    """
    check_measured(run, field=f"{NAME}.attributes", wanted=run.section(FitDirections).attributes)


STAGE = Stage(
    unit=DirectionsUnit,
    name=NAME,
    title="directions in the latent space, one per attribute",
    config=FitDirections,
    check=check,
    check_launch=check_launch,
    needs=lambda run: (CANDIDATES,),
    plan=lambda run: [DirectionsUnit()],
    work="jobs.methods.gandiffface.directions.work",
)
