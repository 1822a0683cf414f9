"""Publish: the audited synthetic set as a self-contained folder, usable without a network or this suite."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

from pydantic import Field

from jobs.frame.errors import ConfigError
from jobs.frame.products import SETTLE
from jobs.frame.run import Run
from jobs.frame.stage import Stage
from jobs.frame.stage_config import FILE_NAME, StageConfig
from jobs.frame.unit import Unit
from jobs.stages.shared.gate.lineage import checked_lineage, unchecked


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


def check_launch(run: Run) -> None:
    """Refuse a set that could not be published whatever the audit finds, before anything is generated.

    Raises:
        ConfigError: the method does not allow it, or nets were trained on data that the audit will not compare with.
    """
    run.method.check_publishable(run)
    left = unchecked(run, checked_lineage(run, counted=False))
    if left:
        raise ConfigError(refusal(left))


def refusal(names: Sequence[str]) -> str:
    """Why a set is not published whose nets were trained on these data sets."""
    return (
        f"publish: nets of this run were trained on data that the audit does not compare the set with: "
        f"{'; '.join(names)}; give the faces in fingerprint.also, or accept it with audit.accept_unchecked: "
        f"{json.dumps(list(names), ensure_ascii=False)}"
    )


def plan(run: Run) -> list[PublishUnit]:
    return [PublishUnit(set=run.section(PublishSet).set_name)]


STAGE = Stage(
    unit=PublishUnit,
    name="publish",
    title="the audited set as a self-contained folder",
    config=PublishSet,
    needs=lambda run: (run.method.generate.name, SETTLE, *(("evaluate",) if run.includes("evaluate") else ())),
    plan=plan,
    check_launch=check_launch,
    work="jobs.stages.publish.work",
)
