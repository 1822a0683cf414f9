"""Attributes: gender, age, pose and expression of every real training face, which the base is conditioned on.

It is a stage of its own, with a unit per tar, because the nets take 15 ms per face on a core: two hours for CASIA.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from pydantic import Field

from cemiface.errors import ModelError
from cemiface.measures.attribute_choice import choose_nets
from jobs.frame.products import REAL
from jobs.frame.run import Run
from jobs.frame.stage import Cost, Stage
from jobs.frame.stage_config import PathText, StageConfig
from jobs.frame.unit import Unit
from jobs.stages.shard.plan import ShardFaces, real_units
from slurm.files import sha256_of

NAME = "attributes"
BYTES_PER_FACE = 100


class MeasureAttributes(StageConfig):
    """Which nets measure the real faces."""

    nets: tuple[PathText, ...] = Field(
        (),
        description=(
            "Cards of further attribute nets; one that gives an attribute of the suite's own nets takes its place. "
            "Gender, age, pose, mouth, smile, eyes and light are measured without."
        ),
    )


@dataclass(frozen=True, kw_only=True)
class AttributesUnit(Unit):
    """A tar of real training faces."""

    tar: str

    @property
    def table(self) -> str:
        """The file of its attributes."""
        return f"{NAME}-" + self.tar.removeprefix(f"{REAL}-").removesuffix(".tar") + ".h5"


def plan(run: Run) -> list[AttributesUnit]:
    """One unit per tar of real training faces."""
    return [AttributesUnit(tar=unit.tar) for unit in real_units(run)]


def cards(run: Run) -> list[Path]:
    """The cards of the user's nets."""
    config = run.find(MeasureAttributes)
    return [run.path(card) for card in config.nets] if config is not None else []


def card_files(run: Run) -> dict[str, str]:
    """The hashes of the cards of the user's nets.

    Raises:
        ConfigError: one of them does not exist.
    """
    config, found = run.find(MeasureAttributes), {}
    for number, card in enumerate(config.nets if config is not None else ()):
        field = f"{NAME}.nets.{number}"
        found[field] = sha256_of(run.given_file(field, card, give="the card of an attribute net"))
    return found


def check_launch(run: Run) -> None:
    """Refuse nets without a card, or that are worth nothing at the size of the real faces.

    Raises:
        ModelError: there is one.
    """
    try:
        nets = choose_nets(cards(run), size=run.section(ShardFaces).image_size).nets
    except ModelError as error:
        raise ModelError(f"{NAME}.nets: {error}") from None
    for net, _ in nets:
        net.read()


def expected_images(run: Run) -> int:
    return sum(unit.images for unit in real_units(run))


STAGE = Stage(
    unit=AttributesUnit,
    name=NAME,
    title="gender, age, pose and expression of every real training face",
    config=MeasureAttributes,
    needs=lambda run: ("shard",),
    files=card_files,
    check_launch=check_launch,
    plan=plan,
    work="jobs.methods.gandiffface.attributes.work",
    expected_images=expected_images,
    cost=lambda run: Cost(gpu_hours=0.0, disk_bytes=expected_images(run) * BYTES_PER_FACE),
)
