"""Portraits: a few pictures of each identity by the generator, edited along the directions.

The diffusion model learns the identity from these pictures.
"""

from __future__ import annotations

from dataclasses import dataclass

from pydantic import Field

from cemiface.errors import ModelError
from cemiface.measures.attribute_choice import choose_nets
from jobs.frame.errors import ConfigError
from jobs.frame.run import Run
from jobs.frame.stage import Cost, Stage
from jobs.frame.stage_config import PathText, StageConfig, as_before, operational
from jobs.frame.unit import Unit
from jobs.methods.gandiffface.attributes.plan import cards
from jobs.methods.gandiffface.candidates.plan import NAME as CANDIDATES
from jobs.methods.gandiffface.candidates.plan import MakeCandidates, face_size
from jobs.methods.gandiffface.directions.plan import NAME as DIRECTIONS
from jobs.methods.gandiffface.identities.plan import NAME as IDENTITIES
from jobs.methods.gandiffface.identities.plan import identities_of
from jobs.stages.shared.embedder import embedder_needs
from slurm.files import sha256_of

NAME = "portraits"
LARGE = 1024  # pixels, at which every net measures
FACES = "identities.tar"  # the portrait of each identity that was not edited
BYTES_PER_PORTRAIT = 12_000  # at 112 px
BYTES_PER_ORIGINAL = 400_000  # at 1024 px


class MakePortraits(StageConfig):
    """How many portraits, and how far they are edited."""

    count: int = Field(
        8,
        ge=2,
        description=(
            "Portraits of each identity; the first one is not edited. The paper does not state the number; "
            "DreamBooth takes 3 to 5 pictures, more vary more."
        ),
    )
    edits: dict[str, float] = Field(
        {"yaw": 1.5, "pitch": 1.0, "mouth": 1.0, "smile": 1.5, "age": 0.5, "light": 1.0},
        description=(
            "Largest step along the direction of each attribute, in standard deviations of the candidates. Attributes "
            "whose direction is not good enough are left out."
        ),
    )
    min_cosine: float | None = Field(
        None,
        ge=-1,
        le=1,
        description=(
            "Smallest cosine of an edited face to the face that was not edited, under E_id. null: the cosine that two "
            "different candidates exceed with probability 0.001, measured in the stage identities."
        ),
    )
    judges: tuple[PathText, ...] = Field(
        (),
        description=(
            "Cards of attribute nets that took no part in the choice of the identities; they judge how far the target "
            "is met. An attribute without one is judged by the net that chose, on faces of half the size where that is "
            "enough."
        ),
        json_schema_extra=as_before(()),
    )
    halvings: int = Field(3, ge=0, description="How often the steps are halved before an edit is given up.")
    identities_per_unit: int = Field(64, ge=1, description="Identities per unit of work, and per tar.")
    batch: int = Field(
        32, ge=1, description="Faces made at once by each rank; another batch size may round differently."
    )
    quality: int = Field(95, ge=1, le=100, description="JPEG quality of the portraits, 1 to 100.")
    originals: bool = Field(
        False,
        description=(
            "Whether each portrait is also kept as the generator made it, in a tar beside, where the faces are cut out "
            "of its pictures (candidates.align). A Stable Diffusion base learns from these."
        ),
        json_schema_extra=as_before(False),
    )
    images_per_second: float | None = Field(
        None,
        gt=0,
        description="Throughput of one GPU, which `cemiface plan` estimates GPU hours from. null: no estimate.",
        json_schema_extra=operational(),
    )


@dataclass(frozen=True, kw_only=True)
class PortraitsUnit(Unit):
    """The portraits of the identities `first` to `last`, both included, in one tar."""

    tar: str
    first: int
    last: int

    @property
    def originals(self) -> str:
        """The tar of the pictures as the generator made them, if they are kept."""
        return f"originals-{self.tar}"


def plan(run: Run) -> list[PortraitsUnit]:
    """Blocks of identities."""
    count, size = identities_of(run), run.section(MakePortraits).identities_per_unit
    return [
        PortraitsUnit(tar=f"{NAME}-{number:05d}.tar", first=start, last=min(start + size, count) - 1)
        for number, start in enumerate(range(0, count, size))
    ]


def check(run: Run) -> None:
    """Refuse to keep originals where there are none.

    Raises:
        ConfigError: the generator's pictures are the portraits.
    """
    if run.section(MakePortraits).originals and not run.section(MakeCandidates).align:
        raise ConfigError(f"{NAME}.originals: got true; allowed: false, or true with candidates.align: true")


def check_launch(run: Run) -> None:
    """Refuse edits of what is no attribute, and judges that cannot be.

    Raises:
        ConfigError: an edit is of no attribute; a judge also chooses.
        ModelError: a judge has no card that can be read, or is worth nothing at the size of the faces.
    """
    config, known = run.section(MakePortraits), choose_nets(cards(run), size=LARGE).names
    unknown = next((name for name in config.edits if name not in known), None)
    if unknown is not None:
        raise ConfigError(f"{NAME}.edits: got {unknown!r}; allowed: {', '.join(sorted(known))}")
    both = next((card for card in config.judges if run.path(card) in cards(run)), None)
    if both is not None:
        raise ConfigError(f"{NAME}.judges: got {both}, which is in attributes.nets; allowed: nets that do not choose")
    try:
        choose_nets([run.path(card) for card in config.judges], size=face_size(run))
    except ModelError as error:
        raise ModelError(f"{NAME}.judges: {error}") from None


def needs(run: Run) -> tuple[str, ...]:
    """The choice, and what edits need; given faces are not edited."""
    edits = CANDIDATES if run.section(MakeCandidates).faces else DIRECTIONS
    return (IDENTITIES, edits, *embedder_needs(run))


def files(run: Run) -> dict[str, str]:
    """The hashes of the judges' cards, which hold those of the nets."""
    found = {}
    for number, card in enumerate(run.section(MakePortraits).judges):
        field = f"{NAME}.judges.{number}"
        found[field] = sha256_of(run.given_file(field, card, give="the card of an attribute net"))
    return found


def expected_images(run: Run) -> int:
    return identities_of(run) * run.section(MakePortraits).count


def cost(run: Run) -> Cost:
    """GPU hours at the config's throughput, without edits that are tried again; disk for the portraits."""
    config, images = run.section(MakePortraits), expected_images(run)
    rate, each = config.images_per_second, BYTES_PER_PORTRAIT + config.originals * BYTES_PER_ORIGINAL
    return Cost(gpu_hours=images / rate / 3600 if rate else None, disk_bytes=images * each)


STAGE = Stage(
    unit=PortraitsUnit,
    name=NAME,
    title="edited pictures of each identity by the generator",
    config=MakePortraits,
    needs=needs,
    files=files,
    check=check,
    check_launch=check_launch,
    plan=plan,
    work="jobs.methods.gandiffface.portraits.work",
    expected_images=expected_images,
    cost=cost,
)
