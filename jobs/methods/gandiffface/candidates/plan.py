"""Candidates: faces of the generator, of which only latents, attributes and embeddings are kept.

The candidate with number k follows from (seed, k) alone. Pictures of the chosen ones are made again later. Faces that
a GAN made elsewhere may take the generator's place; they are measured in the same way.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, replace

from pydantic import Field, model_validator

from cemiface.errors import ModelError
from cemiface.gandiff.gan.head import OWN, GeneratorHead, generator_head
from cemiface.measures.attribute_choice import choose_nets
from jobs.frame.errors import ConfigError
from jobs.frame.run import Run
from jobs.frame.stage import Cost, Stage
from jobs.frame.stage_config import PathText, StageConfig, as_before, operational
from jobs.frame.unit import Plan, Unit
from jobs.methods.gandiffface.attributes.plan import card_files, cards
from jobs.methods.gandiffface.candidates.given import GivenFaces, described, list_of, people_of
from jobs.methods.gandiffface.train_gan.plan import NAME as TRAIN_GAN
from jobs.stages.shard.plan import ShardFaces
from jobs.stages.shared.embedder import embedder_files, embedder_needs
from jobs.stages.shared.given_nets import given_embedder
from slurm.files import sha256_of

NAME = "candidates"
FACE = "face"  # the attribute that says how sure it is that there is a face
BYTES_PER_CANDIDATE = 4 * (512 + 512 + 16)  # latent, embedding, attributes


class MakeCandidates(StageConfig):
    """How many faces the identities are chosen from, and how they are measured."""

    generator: PathText | None = Field(
        None,
        description=(
            "Generator to take, a file of `train-gan` or of `cemiface import-generator`. null: the run's own, of the "
            "stage train-gan."
        ),
    )
    faces: GivenFaces | None = Field(
        None,
        description="Faces that a GAN made elsewhere, in place of a generator. null: a generator makes the faces.",
        json_schema_extra=as_before(None),
    )
    align: bool = Field(
        False,
        description=(
            "Whether the pictures are not on the ArcFace template, as those of StyleGAN nets trained on FFHQ. The face "
            "is then found and cut out at shard.image_size; where there is none, its face presence is "
            "0. Costs about 0.03 CPU seconds per picture."
        ),
        json_schema_extra=as_before(False),
    )
    count: int = Field(
        100_000,
        ge=1,
        description=(
            "Candidates; of given faces at most so many. Rare cells need many: of 100,000 StyleGAN3 faces 2 % "
            "are happy and Black (arXiv 2302.00908). "
            "The released set's identities have numbers up to 10 million."
        ),
    )
    block: int = Field(1000, ge=1, description="Candidates per unit of work.")
    truncation: float = Field(
        0.7,
        ge=0,
        le=2,
        description=(
            "Truncation psi: 1 is the full range of faces; lower moves latents toward the mean face, which looks "
            "better and varies less; above 1 moves them away from it, for generators that vary little. The paper does "
            "not state it."
        ),
    )
    batch: int = Field(
        32, ge=1, description="Faces made at once by each rank; another batch size may round differently."
    )
    images_per_second: float | None = Field(
        None,
        gt=0,
        description="Throughput of one GPU, which `cemiface plan` estimates GPU hours from. null: no estimate.",
        json_schema_extra=operational(),
    )

    @model_validator(mode="after")
    def _check_source(self) -> MakeCandidates:
        if self.faces is not None and self.generator is not None:
            raise ValueError(f"generator: got {self.generator} beside faces; allowed: one of the two")
        return self


@dataclass(frozen=True, kw_only=True)
class CandidatesUnit(Unit):
    """The candidates `start` to `stop` - 1, in the file `table`.

    Given ones are the people in a list of `pictures` pictures, of which `faces` is the sha256.
    """

    start: int
    stop: int
    table: str
    faces: str | None = None
    pictures: int | None = None

    @property
    def list_name(self) -> str:
        """The list of the given pictures, in the stage folder."""
        return "lists/" + self.table.removesuffix(".h5") + ".tsv"


def plan(run: Run) -> Plan[CandidatesUnit]:
    """Blocks of candidate numbers; of given faces with their lists."""
    config = run.section(MakeCandidates)
    people = people_of(run, config.faces, count=config.count) if config.faces else None
    count = config.count if people is None else len(people)
    units, files = [], {}
    for number, start in enumerate(range(0, count, config.block)):
        stop = min(start + config.block, count)
        unit = CandidatesUnit(start=start, stop=stop, table=f"{NAME}-{number:05d}.h5")
        if people is not None:
            data, sha256 = list_of(people[start:stop])
            unit = replace(unit, faces=sha256, pictures=sum(map(len, people[start:stop])))
            files[unit.list_name] = data
        units.append(unit)
    return Plan(units=units, files=files)


def needs(run: Run) -> tuple[str, ...]:
    config = run.section(MakeCandidates)
    own = () if config.generator or config.faces else (TRAIN_GAN,)
    return (*own, *embedder_needs(run))


def given_generator(run: Run) -> GeneratorHead | None:
    """What the given generator's file says of itself; None without one.

    Raises:
        ConfigError: there is no such file.
        ModelError: it is no generator.
    """
    given = run.section(MakeCandidates).generator
    if given is None:
        return None
    return generator_head(run.given_file(f"{NAME}.generator", given, give="a generator that train-gan wrote"))


def face_size(run: Run) -> int:
    """The side of the candidates' faces in pixels, once they are on the template."""
    config, head = run.section(MakeCandidates), given_generator(run)
    return run.section(ShardFaces).image_size if head is None or config.align else head.image_size


def measured_names(run: Run) -> tuple[str, ...]:
    """The attributes that are measured of candidates, at their size."""
    return choose_nets(cards(run), size=face_size(run)).names


def check_measured(run: Run, *, field: str, wanted: Collection[str]) -> None:
    """Refuse attributes that no net measures on the candidates' faces.

    Raises:
        ModelError: there is one; says from which size on it is measured.
    """
    try:
        choose_nets(cards(run), size=face_size(run), wanted=wanted)
    except ModelError as error:
        raise ModelError(f"{field}: {error}") from None


def check_min_face(run: Run, *, field: str, value: float, size: int) -> None:
    """Refuse a smallest face presence for faces of a size at which no net tells faces from other pictures.

    Raises:
        ConfigError: it is above 0 there.
    """
    if value > 0 and FACE not in choose_nets(cards(run), size=size).names:
        raise ConfigError(
            f"{field}: got {value} for faces of {size} px, at which no net tells faces from other pictures; allowed: "
            "0, or larger faces"
        )


def check_launch(run: Run) -> None:
    """Refuse a StyleGAN net of another size than the set's, whose pictures would be taken as aligned.

    Also faces that are too small to tell whether there is one, and an E_id that cannot be loaded.

    Raises:
        ConfigError: it is one, or they are.
        ModelError: the weights of E_id are no recognition net's.
    """
    given_embedder(run)
    head, size, align = given_generator(run), run.section(ShardFaces).image_size, run.section(MakeCandidates).align
    if align and FACE not in measured_names(run):
        raise ConfigError(
            f"{NAME}.align: got true for faces of {size} px, at which no net tells faces from other pictures; allowed: "
            "false, or larger faces (shard.image_size)"
        )
    if head and head.architecture != OWN and head.image_size != size and not align:
        raise ConfigError(
            f"{NAME}.align: got false with a {head.architecture} generator of {head.image_size} px for a set of "
            f"{size} px; allowed: true, which cuts the faces out of its pictures"
        )


def forecast(run: Run) -> str:
    """Where the faces come from, and what is measured of them."""
    config, head = run.section(MakeCandidates), given_generator(run)
    units = run.ledger.units(STAGE)
    if config.faces:
        pictures = sum(unit.pictures or 0 for unit in units)
        made = described(run, config.faces, people=units[-1].stop, pictures=pictures)
    elif head:
        made = f"{NAME}: faces of a given {head.architecture} generator of {head.image_size} px"
    else:
        made = f"{NAME}: faces of the run's own generator"
    cut = f"; faces are found and cut out at {face_size(run)} px" if config.align else ""
    return f"{made}{cut}; measured: {', '.join(sorted(measured_names(run)))}"


def expected_images(run: Run) -> int:
    """Pictures that are measured."""
    return sum(unit.pictures or unit.stop - unit.start for unit in run.ledger.units(STAGE))


def files(run: Run) -> dict[str, str]:
    """The hashes of the given generator, of E_id and of the given attribute nets.

    Raises:
        ConfigError: one of them does not exist.
    """
    config, found = run.section(MakeCandidates), card_files(run) | embedder_files(run)
    if config.generator:
        path = run.given_file(f"{NAME}.generator", config.generator, give="a generator that train-gan wrote")
        found[f"{NAME}.generator"] = sha256_of(path)
    return found


def cost(run: Run) -> Cost:
    """GPU hours at the config's throughput; disk for the tables."""
    images, rate = expected_images(run), run.section(MakeCandidates).images_per_second
    return Cost(gpu_hours=images / rate / 3600 if rate else None, disk_bytes=images * BYTES_PER_CANDIDATE)


STAGE: Stage[CandidatesUnit] = Stage(
    unit=CandidatesUnit,
    name=NAME,
    title="faces of the generator, measured, to choose identities from",
    config=MakeCandidates,
    needs=needs,
    files=files,
    check_launch=check_launch,
    forecast=forecast,
    plan=plan,
    work="jobs.methods.gandiffface.candidates.work",
    expected_images=expected_images,
    cost=cost,
)
