"""Who answers for a published set, on what ground it was made, and what it may be used for."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Annotated

from pydantic import Field, StringConstraints, model_validator

from jobs.frame.errors import ConfigError
from jobs.frame.stage_config import StageConfig
from shards.privacy.lineage import CheckedSet, DataSet

OWN = "shard.faces"  # names the run's own faces where `shard.name` does not

Text = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=4000)]


class DataTerms(StageConfig):
    """On what ground a set of real faces was used."""

    name: Text = Field(
        description=(
            "Name of the data set, as `shard.name` or the lineage of a net has it; `shard.faces` for the run's own "
            "faces if they have no name. Example: CASIA-WebFace."
        )
    )
    basis: Text = Field(
        description=(
            "License or legal basis on which the faces were used; write not determined if you do not know. "
            "Example: research license of 3 May 2024, non-commercial."
        )
    )
    agreement: Text = Field(
        description=(
            "Whether the people agreed, and to what. Example: all 400 signed a form that allows training and "
            "publishing synthetic faces of other people."
        )
    )


class Governance(StageConfig):
    """What the card states about the real data, the uses of the set, and who answers for it."""

    real_data: tuple[DataTerms, ...] = Field(
        min_length=1,
        description=(
            "The terms of every set of real faces that the nets have learned from. `publish` names those that are "
            "missing, before anything runs."
        ),
    )
    leaving_out: Text = Field(
        description=(
            "How a person can ask to be left out, and what then happens. Example: write to the contact with one "
            "picture; it is compared with this set, synthetic people near it are removed in the next version "
            "(`cemiface withdraw`), and the picture is deleted."
        )
    )
    uses: Text = Field(
        description="What the set is meant for. Example: training and comparing face recognition nets in research."
    )
    uses_not_allowed: Text = Field(
        description=(
            "What the set may not be used for. Example: identifying real people, and products without an evaluation "
            "of their own."
        )
    )
    contact: Text = Field(
        description="Who answers questions and requests. Example: data protection officer, privacy@example.org."
    )
    retention: Text = Field(
        description=(
            "How long the private tars of real faces are kept, and where. Example: on the group's cluster until "
            "31 December 2028, then deleted."
        )
    )

    @model_validator(mode="after")
    def _check(self) -> Governance:
        names = [one.name for one in self.real_data]
        repeated = next((name for name in names if names.count(name) > 1), None)
        if repeated is not None:
            raise ValueError(f"real_data: got {repeated!r} twice, allowed: one entry per data set; remove one")
        return self


def required(governance: Governance | None) -> Governance:
    """The section, which sets have to have that are published now.

    Raises:
        ConfigError: it is missing, as in configs of versions that had `consent` alone.
    """
    if governance is None:
        raise ConfigError(
            "publish.governance: missing; allowed: real_data, leaving_out, uses, uses_not_allowed, contact and "
            "retention, which took the place of publish.consent; `cemiface explain publish.governance` has examples"
        )
    return governance


def require_terms(governance: Governance, lineage: Sequence[CheckedSet], *, own: DataSet) -> None:
    """Refuse a set whose nets have learned from real faces whose terms are not stated.

    Raises:
        ConfigError: names them.
    """
    stated = {own.name if one.name == OWN else one.name for one in governance.real_data}
    missing = list(dict.fromkeys(one.data.name for one in lineage if one.data.name not in stated))
    if missing:
        raise ConfigError(
            f"publish.governance.real_data: no terms of {'; '.join(missing)}; add an entry with name, basis and "
            f"agreement for each, such as name: {json.dumps(missing[0], ensure_ascii=False)}"
        )
