"""Publish: the audited synthetic set as a self-contained folder, usable without a network or this suite."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from pydantic import Field

from jobs.frame.errors import ConfigError
from jobs.frame.products import SETTLE
from jobs.frame.run import Run
from jobs.frame.stage import Stage
from jobs.frame.stage_config import FILE_NAME, PathText, StageConfig, as_before
from jobs.frame.unit import Unit
from jobs.stages.publish.governance import Governance, require_terms, required
from jobs.stages.publish.signing import FIELD, public_key
from jobs.stages.settle.withdrawn import withdrawn_files
from jobs.stages.shared.gate.lineage import checked_lineage, own_faces, unchecked


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
        "1.0.0",
        pattern=r"^[0-9]+\.[0-9]+\.[0-9]+$",
        description=(
            "Version of the set, as three numbers, e.g. 1.0.0. Each published set from which people are withdrawn "
            "raises the first number by one."
        ),
    )
    creator: str = Field(min_length=1, description="Who made the set, as its card names them.")
    license: str = Field(min_length=1, description="License of the set: an SPDX identifier or a URL.")
    governance: Governance | None = Field(
        None,
        description=(
            "What the card states about the real data, the uses of the set, and who answers for it. Sets are published "
            "only with it; null is for configs of older versions."
        ),
        json_schema_extra=as_before(None),
    )
    consent: str | None = Field(
        None,
        min_length=1,
        description="Of older configs, which had this sentence in place of `governance`. It is read and not shown.",
    )
    signing_key: PathText | None = Field(
        None,
        description=(
            "Private key with which ssh-keygen signs manifest.json, without a passphrase and readable by you alone. It "
            "is never copied; the folder holds its public half. null: the set is unsigned."
        ),
        json_schema_extra=as_before(None),
    )


@dataclass(frozen=True, kw_only=True)
class PublishUnit(Unit):
    """The published folder, by its name."""

    set: str


def check_launch(run: Run) -> None:
    """Refuse a set that could not be published whatever the audit finds, before anything is generated.

    Raises:
        ConfigError: the method does not allow it, the key cannot sign, terms are not stated, or nets were trained on
            data that the audit will not compare with.
    """
    run.method.check_publishable(run)
    public_key(key_path(run))
    governance, lineage = required(run.section(PublishSet).governance), checked_lineage(run, counted=False)
    left = unchecked(run, lineage)
    if left:
        raise ConfigError(refusal(left))
    require_terms(governance, lineage, own=own_faces(run))


def key_path(run: Run) -> Path | None:
    """The private key's file.

    Raises:
        ConfigError: there is none of this name.
    """
    given = run.section(PublishSet).signing_key
    return run.given_file(FIELD, given, give="a private key of ssh-keygen") if given else None


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
    files=withdrawn_files,
    work="jobs.stages.publish.work",
)
