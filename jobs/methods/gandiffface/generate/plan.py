"""Generate: pictures of each identity by its adapter, one prompt each, checked and made again where they fail."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from pydantic import Field, ValidationError, model_validator

from cemiface.errors import ModelError
from cemiface.gandiff.prompts import Grammar, check_values, drawn_prompts
from cemiface.gandiff.slots import DEFAULT_SLOTS, Slot, base_config_of
from cemiface.gandiff.text.phrases import check_phrases, phrases_of
from cemiface.gandiff.text.text_base_cost import Hours
from cemiface.measures.attribute_choice import choose_nets
from jobs.frame.config_file.yaml_file import read_yaml
from jobs.frame.errors import ConfigError
from jobs.frame.products import SYNTHETIC
from jobs.frame.run import Run
from jobs.frame.seeds import derive
from jobs.frame.stage import Cost, Stage
from jobs.frame.stage_config import PathText, Precision, StageConfig, as_before, operational
from jobs.frame.unit import SetUnit
from jobs.methods.gandiffface.attributes.plan import cards
from jobs.methods.gandiffface.candidates.plan import check_min_face
from jobs.methods.gandiffface.identities.plan import identities_of
from jobs.methods.gandiffface.personalize.plan import NAME as PERSONALIZE
from jobs.methods.gandiffface.personalize.plan import Personalize, base_config, base_path
from jobs.methods.gandiffface.personalize.text_base import cost_of, folder_of, hours_of
from jobs.methods.gandiffface.portraits.plan import NAME as PORTRAITS
from jobs.methods.gandiffface.portraits.plan import MakePortraits
from jobs.methods.gandiffface.train_base.plan import NAME as TRAIN_BASE
from jobs.methods.gandiffface.train_base.plan import TrainBase
from jobs.stages.shard.plan import ShardFaces
from jobs.stages.shared.embedder import embedder_needs
from slurm.files import sha256_of

NAME = "generate"
GRAMMARS = Path(__file__).parent.parent / "grammars"
OF_IDENTITY = ("gender", "age")  # slots whose values are those of the identity
SHOWN = 20  # prompts that `plan` prints
BYTES_PER_IMAGE, BYTES_PER_ORIGINAL = 12_000, 120_000  # at 112 px, at 512 px
REMADE = 0.1  # share of a text base's pictures that fail the checks; assumed for the estimate of GPU hours


class GeneratePictures(StageConfig):
    """How many pictures are made, of what, and which are kept."""

    images_per_identity: int = Field(
        50, ge=1, description="Pictures of each identity. The default is that of the released set, 50 to 55."
    )
    prompts: PathText | None = Field(
        None,
        description=(
            "Prompt grammar, a YAML file with slots, weighted values and forbidden pairs. null: one of "
            "jobs/methods/gandiffface/grammars, slots.yaml for the embedded base and text.yaml for Stable Diffusion."
        ),
    )
    steps: int = Field(
        12,
        ge=1,
        le=1000,
        description=(
            "Evaluations of the base per picture; time grows in proportion. 25 are usual for Stable Diffusion."
        ),
    )
    guidance: float = Field(
        2.0,
        ge=1,
        description=(
            "Classifier-free guidance: 1 takes the prompt as it is; more follows it more closely, varies less and "
            "costs twice the time. ID-Booth takes 5 with Stable Diffusion."
        ),
    )
    attempts: int = Field(
        3, ge=1, description="How often a picture is made, each time with other noise, until it passes the checks."
    )
    min_face: float = Field(
        0.3,
        ge=0,
        le=1,
        description=(
            "Smallest face presence of a picture, 0 to 1. Faces are cut out of Stable Diffusion's pictures; a picture "
            "without a face, or with several, has the presence 0. 0 keeps these too, as a whole."
        ),
    )
    cosine: tuple[float, float] = Field(
        (0.2, 0.95),
        description=(
            "Range of the cosine of a picture to the center of its portraits, under E_id. Below it is another person, "
            "above it varies too little to train on. The paper does not state its limits."
        ),
    )
    max_portrait_cosine: float = Field(
        0.97, gt=-1, le=1, description="Largest cosine of a picture to any single portrait: above, it copies it."
    )
    identities_per_shard: int = Field(
        8, ge=1, description="Identities per tar. A tar is one unit of work; an interrupted one is made again."
    )
    batch: int = Field(
        32, ge=1, description="Pictures of one identity sampled at once; another batch size may round differently."
    )
    quality: int = Field(95, ge=1, le=100, description="JPEG quality of the pictures, 1 to 100.")
    originals: bool = Field(
        False,
        description=(
            "Whether the whole pictures of a Stable Diffusion base are kept beside the faces that are cut out of them, "
            "in tars originals-*. They stay in the run and are not part of the set; pictures of refill have none."
        ),
        json_schema_extra=as_before(False),
    )
    precision: Precision = Field(
        "auto",
        description="Arithmetic of the base: auto is bf16 on GPUs, and fp32 on CPUs, as few are faster in bf16.",
    )
    images_per_second: float | None = Field(
        None,
        gt=0,
        description="Throughput of one GPU, which `cemiface plan` estimates GPU hours from. null: no estimate.",
        json_schema_extra=operational(),
    )

    @model_validator(mode="after")
    def _check_cosine(self) -> GeneratePictures:
        low, high = self.cosine
        if not -1 <= low < high <= 1:
            raise ValueError(f"cosine: got {list(self.cosine)}; allowed: two rising numbers from -1 to 1")
        return self


def grammar_path(run: Run) -> Path:
    """The file of the prompt grammar.

    Raises:
        ConfigError: the config names a file that is not there.
    """
    given = run.section(GeneratePictures).prompts
    if given is None:
        return GRAMMARS / ("text.yaml" if run.section(Personalize).text_base else "slots.yaml")
    return run.given_file(f"{NAME}.prompts", given, give="a prompt grammar")


def grammar_of(run: Run) -> Grammar:
    """The prompt grammar.

    Raises:
        ConfigError: the file is missing, or no YAML.
        ModelError: it is no grammar.
    """
    path = grammar_path(run)
    try:
        return Grammar.model_validate(read_yaml(path))
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"])) or "the file"
        raise ModelError(f"{path}: {where}: {first['msg'].removeprefix('Value error, ')}") from None


def prompts_of(run: Run, grammar: Grammar, identity: int) -> list[dict[str, str]]:
    """The prompts of an identity's pictures, which follow from the run's seed and the identity."""
    images = run.section(GeneratePictures).images_per_identity
    return drawn_prompts(grammar, images=images, seed=derive(run.seed, "prompts", identity))


def plan(run: Run) -> list[SetUnit]:
    """One unit per tar: a block of identities."""
    count, size = identities_of(run), run.section(GeneratePictures).identities_per_shard
    return [
        SetUnit(tar=f"{SYNTHETIC}-{number:05d}.tar", first=start, last=min(start + size, count) - 1)
        for number, start in enumerate(range(0, count, size))
    ]


def check(run: Run) -> None:
    """Refuse a grammar that forbids everything, or that asks for what the run's own base does not have.

    Raises:
        ModelError: it does.
    """
    grammar, training, config = grammar_of(run), run.find(TrainBase), run.section(GeneratePictures)
    prompts_of(run, grammar, 0)
    if run.section(Personalize).text_base:
        check_grammar(run, grammar, ())
    elif config.originals:
        raise ConfigError(f"{NAME}.originals: got true; allowed: false, as the embedded base makes aligned faces")
    elif training is not None and run.includes(TRAIN_BASE):
        check_grammar(run, grammar, training.denoiser.slots)


def check_launch(run: Run) -> None:
    """Refuse a smallest face presence that cannot be measured, and a grammar that asks for what a given base lacks.

    Raises:
        ConfigError: it cannot, or there is no such base.
        ModelError: it does, or the file is no base.
    """
    by_text, value = run.section(Personalize).text_base is not None, run.section(GeneratePictures).min_face
    size = run.section(ShardFaces).image_size if by_text else base_config(run).image_size
    check_min_face(run, field=f"{NAME}.min_face", value=value, size=size)
    if run.section(Personalize).base:
        check_grammar(run, grammar_of(run), _slots(run))


def check_grammar(run: Run, grammar: Grammar, slots: Sequence[Slot]) -> None:
    """Refuse a grammar that the base cannot be asked for; `slots` are those of an embedded base.

    Raises:
        ModelError: it has slots or values that the base lacks, or, for a text base, a slot without phrases or one that
            shows what no net measures.
    """
    if not run.section(Personalize).text_base:
        check_values(grammar, {slot.name: slot.values for slot in slots if slot.name not in OF_IDENTITY})
        return
    check_phrases(grammar)
    shown = sorted({name for values in grammar.slots.values() for choice in values.values() for name in choice.shows})
    try:
        choose_nets(cards(run), size=run.section(ShardFaces).image_size, wanted=shown)
    except ModelError as error:
        raise ModelError(f"{NAME}.prompts: shows: {error}") from None


def asked_values(run: Run) -> dict[str, set[float | str]]:
    """The values of the prompts' slots, and of those that an identity has by itself."""
    own = {slot.name: set[float | str](slot.values) for slot in _slots(run) if slot.name in OF_IDENTITY}
    return own | {name: set(values) for name, values in grammar_of(run).slots.items()}


def _slots(run: Run) -> Sequence[Slot]:
    """Those of the base."""
    config = run.section(Personalize)
    if config.text_base:
        return DEFAULT_SLOTS
    return base_config_of(base_path(run)).slots if config.base else run.section(TrainBase).denoiser.slots


def forecast(run: Run) -> str:
    """Twenty prompts, as the first identities get them, and the calculation of GPU hours for a text base."""
    grammar = grammar_of(run)
    prompts = [prompt for identity in range(SHOWN) for prompt in prompts_of(run, grammar, identity)[:1]]
    hours = _hours(run)
    if hours is None:
        lines = (", ".join(f"{name} {value}" for name, value in prompt.items()) for prompt in prompts)
        return "prompts such as: " + "; ".join(lines)
    phrase = phrases_of(grammar)
    return "\n".join(
        [
            "prompts such as:",
            *(f"  {phrase(prompt)}" for prompt in prompts),
            f"{NAME} on an A100, where {REMADE:.0%} are made again (assumed): {hours.making}",
            f"personalize and {NAME}: {hours.in_all}",
        ]
    )


def expected_images(run: Run) -> int:
    return identities_of(run) * run.section(GeneratePictures).images_per_identity


def cost(run: Run) -> Cost:
    """GPU hours at the config's throughput without pictures that are made again, else as calculated for a text base."""
    config, images = run.section(GeneratePictures), expected_images(run)
    each = BYTES_PER_IMAGE + config.originals * BYTES_PER_ORIGINAL
    if config.images_per_second:
        return Cost(gpu_hours=images / config.images_per_second / 3600, disk_bytes=images * each)
    hours = _hours(run)
    return Cost(gpu_hours=hours.generate if hours else None, disk_bytes=images * each)


def _hours(run: Run) -> Hours | None:
    """Of personalize and generate on an A100, None for the embedded base."""
    config, personalize = run.section(GeneratePictures), run.section(Personalize)
    given = personalize.text_base
    if given is None:
        return None
    return hours_of(
        cost_of(folder_of(run, given), given),
        given,
        personalize.tuning,
        people=identities_of(run),
        portraits=run.section(MakePortraits).count,
        pictures=config.images_per_identity,
        steps=config.steps,
        guided=config.guidance > 1,
        remade=REMADE,
    )


def originals(unit: SetUnit) -> str:
    """The tar of the whole pictures of a unit, if they are kept."""
    return f"originals-{unit.tar}"


STAGE = Stage(
    unit=SetUnit,
    name=NAME,
    title="pictures of each identity by its adapter, one prompt each",
    config=GeneratePictures,
    needs=lambda run: (PORTRAITS, PERSONALIZE, *embedder_needs(run)),
    files=lambda run: {f"{NAME}.prompts": sha256_of(grammar_path(run))},
    check=check,
    check_launch=check_launch,
    forecast=forecast,
    plan=plan,
    work="jobs.methods.gandiffface.generate.work",
    expected_images=expected_images,
    cost=cost,
)
