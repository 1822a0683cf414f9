"""Identities: candidates that meet the demographic target and are dissimilar to each other and to all real people."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import Field, model_validator

from cemiface.gandiff.demographics import AGE, GENDER, GENDERS, TargetError, check_bands
from jobs.frame.errors import ConfigError
from jobs.frame.products import EMBED
from jobs.frame.run import Run
from jobs.frame.stage import Stage
from jobs.frame.stage_config import StageConfig
from jobs.frame.unit import Unit
from jobs.methods.gandiffface.candidates.plan import NAME as CANDIDATES
from jobs.methods.gandiffface.candidates.plan import STAGE as CANDIDATES_STAGE
from jobs.methods.gandiffface.candidates.plan import check_measured, check_min_face, face_size, measured_names

NAME = "identities"
TABLE = "identities.json"
MEASURED = {GENDER: "male", AGE: "age"}  # the attribute behind a target

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


def check_launch(run: Run) -> None:
    """Refuse conditions on what no net measures at the size of the candidates' faces, and too few candidates.

    Raises:
        ConfigError: a smallest face presence that cannot be measured, a label that a net does not have, or more
            identities than candidates.
        ModelError: a target of an attribute that no net measures.
    """
    config = run.section(MakeIdentities)
    check_min_face(run, field=f"{NAME}.min_face", value=config.min_face, size=face_size(run))
    for name, shares in config.target.items():
        labels = labels_of(run, name)
        unknown = [label for label in shares if labels and label not in labels]
        if unknown:
            raise ConfigError(f"{NAME}.target.{name}: got {unknown[0]}; allowed: {', '.join(labels)}")
    candidates = run.ledger.units(CANDIDATES_STAGE)[-1].stop
    if config.count > candidates and config.if_short == "fail":
        raise ConfigError(
            f"{NAME}.count: got {config.count} of {candidates} candidates; allowed: 1 to {candidates}, or if_short: "
            "less; lower it or give more candidates"
        )


def labels_of(run: Run, name: str) -> tuple[str, ...]:
    """The labels of an attribute of the target; () for age, whose bands are the target's own.

    Raises:
        ModelError: no net measures it at the size of the candidates' faces.
    """
    field = f"{NAME}.target"
    if name in MEASURED:
        check_measured(run, field=field, wanted=[MEASURED[name]])
        return GENDERS if name == GENDER else ()
    prefix = f"{name}."
    measured = [one for one in measured_names(run) if one.startswith(prefix)]
    if not measured:
        check_measured(run, field=field, wanted=[name])
        raise ConfigError(f"{field}: got {name!r}; allowed: gender, age, or an output of classes of a net of yours")
    return tuple(one.removeprefix(prefix) for one in measured)


def wished_shares(run: Run) -> dict[str, dict[str, float]]:
    """The share of each label by attribute, of joint cells as well."""
    config = run.section(MakeIdentities)
    if not config.joint:
        return config.target
    names = list(config.target)
    found: dict[str, dict[str, float]] = {name: dict.fromkeys(config.target[name], 0.0) for name in names}
    for cell, share in config.joint.items():
        for name, label in zip(names, cell_labels(cell), strict=True):
            found[name][label] += share
    return found


def forecast(run: Run) -> str | None:
    """What the choice does without."""
    if MEASURED[AGE] in measured_names(run):
        return None
    return (
        f"{NAME}: min_age is not applied: no net measures age at {face_size(run)} px; make sure otherwise that no "
        "identity looks like a child"
    )


def identities_of(run: Run) -> int:
    """How many identities the config asks for."""
    return run.section(MakeIdentities).count


STAGE = Stage(
    unit=IdentitiesUnit,
    name=NAME,
    title="identities that meet the demographic target, from the candidates",
    config=MakeIdentities,
    check_launch=check_launch,
    forecast=forecast,
    needs=lambda run: (CANDIDATES, EMBED),
    plan=lambda run: [IdentitiesUnit()],
    work="jobs.methods.gandiffface.identities.work",
)
