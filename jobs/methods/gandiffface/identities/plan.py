"""Identities: candidates that meet the demographic target and are dissimilar to each other and to all real people."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import Field, model_validator

from cemiface.gandiff.demographics import AGE, GENDER, GENDERS, TargetError, check_bands
from cemiface.measures.attribute_choice import choose_nets
from jobs.frame.products import EMBED
from jobs.frame.run import Run
from jobs.frame.stage import Stage
from jobs.frame.stage_config import StageConfig
from jobs.frame.unit import Unit
from jobs.methods.gandiffface.attributes.plan import cards
from jobs.methods.gandiffface.candidates.plan import NAME as CANDIDATES
from jobs.methods.gandiffface.candidates.plan import MakeCandidates
from jobs.stages.shard.plan import ShardFaces

NAME = "identities"
TABLE = "identities.json"

Share = Annotated[float, Field(ge=0, le=1)]


class MakeIdentities(StageConfig):
    """How many identities, of which demographic cells, and how dissimilar."""

    count: int = Field(10_000, ge=1, description="Identities of the set. The default is that of the released set.")
    target: dict[str, dict[str, Share]] = Field(
        {},
        description=(
            "Share of each label by attribute, each adding up to 1: gender (female, male), age (bands such as 18-29 or "
            "60+), and attributes of your own nets. Joint cells follow the candidates as far as these shares allow. "
            "Empty: whatever the generator gives."
        ),
    )
    joint: dict[str, Share] = Field(
        {},
        description=(
            "Share of each joint cell instead, labels in the order of `target` joined by a comma, adding up to 1: "
            '"female, 18-29": 0.1. The shares within `target` are then not used.'
        ),
    )
    max_cosine: float = Field(
        0.3,
        gt=-1,
        le=1,
        description="Largest cosine under E_id between two identities. The paper does not state it; 0.3 is CemiFace's.",
    )
    max_cosine_to_real: float = Field(
        0.4,
        gt=-1,
        le=1,
        description="Largest cosine under E_id of an identity to the center of any real training person.",
    )
    min_face: float = Field(
        0.5, ge=0, le=1, description="Smallest face presence of a candidate, 0 to 1, by the face mesh net."
    )
    min_age: float = Field(
        18, ge=0, description="Smallest estimated age in years of a candidate; younger ones are left out."
    )
    if_short: Literal["fail", "less"] = Field(
        "fail",
        description=(
            "What to do if a cell has too few candidates: fail says how many candidates it would take, less takes what "
            "there is."
        ),
    )
    spares: int = Field(
        1,
        ge=0,
        description=(
            "Further candidates of the same cell that are set aside per identity, where there are enough. They replace "
            "identities whose portraits do not succeed."
        ),
    )

    @model_validator(mode="after")
    def _check_target(self) -> MakeIdentities:
        for name, shares in self.target.items():
            if not shares or (not self.joint and abs(sum(shares.values()) - 1) > 1e-6):
                raise ValueError(
                    f"target.{name}: got a sum of {sum(shares.values()):.4f}; allowed: shares that add to 1"
                )
            if name == GENDER and not set(shares) <= set(GENDERS):
                raise ValueError(f"target.gender: got {', '.join(shares)}; allowed: {', '.join(GENDERS)}")
            if name == AGE:
                try:
                    check_bands(list(shares))
                except TargetError as error:
                    raise ValueError(f"target.age: {error}") from None
            if any("," in label for label in shares):
                raise ValueError(f"target.{name}: got a label with a comma; allowed: labels without")
        self._check_joint()
        return self

    def _check_joint(self) -> None:
        if not self.joint:
            return
        labels = [set(shares) for shares in self.target.values()]
        for cell in self.joint:
            parts = cell_labels(cell)
            if len(parts) != len(labels) or any(part not in known for part, known in zip(parts, labels, strict=True)):
                example = ", ".join(next(iter(shares)) for shares in self.target.values())
                raise ValueError(
                    f"joint: got {cell!r}; allowed: a label of each attribute of target, as in {example!r}"
                )
        if abs(sum(self.joint.values()) - 1) > 1e-6:
            raise ValueError(f"joint: got a sum of {sum(self.joint.values()):.4f}; allowed: shares that add to 1")


def cell_labels(cell: str) -> tuple[str, ...]:
    """The labels of a joint cell such as "female, 18-29"."""
    return tuple(part.strip() for part in cell.split(","))


@dataclass(frozen=True, kw_only=True)
class IdentitiesUnit(Unit):
    """The one table of identities."""

    file: str = TABLE


def check(run: Run) -> None:
    """Refuse a target of attributes that no net measures on faces of the run's size.

    Raises:
        ModelError: it has one.
    """
    config, candidates = run.section(MakeIdentities), run.section(MakeCandidates)
    if (candidates.generator is not None and not candidates.align) or not config.target:
        return  # the size of a given generator is known when it is loaded
    size = run.section(ShardFaces).image_size
    measured = {GENDER: "male"}
    plain = [measured.get(name, name) for name in config.target]
    own = {name.partition(".")[0]: name for name in choose_nets(cards(run), size=size).names}
    choose_nets(cards(run), size=size, wanted=[own.get(name, name) for name in plain])


def identities_of(run: Run) -> int:
    """How many identities the config asks for."""
    return run.section(MakeIdentities).count


STAGE = Stage(
    unit=IdentitiesUnit,
    name=NAME,
    title="identities that meet the demographic target, from the candidates",
    config=MakeIdentities,
    check=check,
    needs=lambda run: (CANDIDATES, EMBED),
    plan=lambda run: [IdentitiesUnit()],
    work="jobs.methods.gandiffface.identities.work",
)
