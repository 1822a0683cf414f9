"""Publish: the audited synthetic set as a folder that stands alone, on a machine without network or this suite."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from pydantic import Field

from jobs.frame.products import SETTLE
from jobs.frame.run import Run
from jobs.frame.stage import Stage
from jobs.frame.stage_config import FILE_NAME, StageConfig
from jobs.frame.unit import Unit


class PublishSet(StageConfig):
    """The set's name, version and card."""

    set_name: Annotated[str, FILE_NAME] = Field(
        pattern=r"^[a-z0-9][a-z0-9._-]*$",
        max_length=80,
        description=(
            "Name of the published folder, at most 80 characters: lower-case letters, digits, dots, dashes "
            "and underscores."
        ),
    )
    version: str = Field(
        "1.0.0", pattern=r"^[0-9]+\.[0-9]+\.[0-9]+$", description="Version of the set, as three numbers, e.g. 1.0.0."
    )
    creator: str = Field(min_length=1, description="Who made the set, as its card names them.")
    license: str = Field(min_length=1, description="License of the set: an SPDX identifier or a URL.")
    consent: str = Field(
        min_length=1, description="Whose faces were trained on and on what ground, as the set's card states it."
    )


@dataclass(frozen=True, kw_only=True)
class PublishUnit(Unit):
    """The published folder, by its name."""

    set: str


def plan(run: Run) -> list[PublishUnit]:
    return [PublishUnit(set=run.section(PublishSet).set_name)]


STAGE = Stage(
    unit=PublishUnit,
    name="publish",
    title="the audited set as a folder that stands alone",
    config=PublishSet,
    needs=lambda run: (run.method.generate.name, SETTLE, *(("evaluate",) if run.asks_for("evaluate") else ())),
    plan=plan,
    work="jobs.stages.publish.work",
)
