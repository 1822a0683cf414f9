"""Generate: pictures of each identity by its adapter, one prompt each, checked and made again where they fail."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field, ValidationError, model_validator

from cemiface.errors import ModelError
from cemiface.gandiff.prompts import Grammar, check_values, drawn_prompts
from jobs.frame.config_file.yaml_file import read_yaml
from jobs.frame.products import SYNTHETIC
from jobs.frame.run import Run
from jobs.frame.seeds import derive
from jobs.frame.stage import Cost, Stage
from jobs.frame.stage_config import PathText, Precision, StageConfig, operational
from jobs.frame.unit import SetUnit
from jobs.methods.gandiffface.identities.plan import identities_of
from jobs.methods.gandiffface.personalize.plan import NAME as PERSONALIZE
from jobs.methods.gandiffface.portraits.plan import NAME as PORTRAITS
from jobs.methods.gandiffface.train_base.plan import NAME as TRAIN_BASE
from jobs.methods.gandiffface.train_base.plan import TrainBase
from jobs.stages.shared.embedder import embedder_needs
from slurm.files import sha256_of

NAME = "generate"
GRAMMARS = Path(__file__).parent.parent / "grammars"
OF_IDENTITY = ("gender", "age")  # slots whose values are those of the identity
SHOWN = 20  # prompts that `plan` prints
BYTES_PER_IMAGE = 12_000  # at 112 px


class GeneratePictures(StageConfig):
    """How many pictures are made, of what, and which are kept."""

    images_per_identity: int = Field(
        50, ge=1, description="Pictures of each identity. The default is that of the released set, 50 to 55."
    )
    prompts: PathText | None = Field(
        None,
        description=(
            "Prompt grammar, a YAML file with slots, weighted values and forbidden pairs. null: that of the embedded "
            "base, jobs/methods/gandiffface/grammars/slots.yaml."
        ),
    )
    steps: int = Field(12, ge=1, le=1000, description="Evaluations of the base per picture; time grows in proportion.")
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
    min_face: float = Field(0.3, ge=0, le=1, description="Smallest face presence of a picture, 0 to 1.")
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
        return GRAMMARS / "slots.yaml"
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
    grammar, training = grammar_of(run), run.find(TrainBase)
    prompts_of(run, grammar, 0)
    if training is not None and run.includes(TRAIN_BASE):
        known = {slot.name: slot.values for slot in training.denoiser.slots if slot.name not in OF_IDENTITY}
        check_values(grammar, known)


def forecast(run: Run) -> str:
    """Twenty prompts, as the first identities get them."""
    grammar = grammar_of(run)
    prompts = [prompt for identity in range(SHOWN) for prompt in prompts_of(run, grammar, identity)[:1]]
    lines = (", ".join(f"{name} {value}" for name, value in prompt.items()) for prompt in prompts)
    return "prompts such as: " + "; ".join(lines)


def expected_images(run: Run) -> int:
    return identities_of(run) * run.section(GeneratePictures).images_per_identity


def cost(run: Run) -> Cost:
    """GPU hours at the config's throughput, without pictures that are made again; disk for all."""
    images, rate = expected_images(run), run.section(GeneratePictures).images_per_second
    return Cost(gpu_hours=images / rate / 3600 if rate else None, disk_bytes=images * BYTES_PER_IMAGE)


STAGE = Stage(
    unit=SetUnit,
    name=NAME,
    title="pictures of each identity by its adapter, one prompt each",
    config=GeneratePictures,
    needs=lambda run: (PORTRAITS, PERSONALIZE, *embedder_needs(run)),
    files=lambda run: {f"{NAME}.prompts": sha256_of(grammar_path(run))},
    check=check,
    forecast=forecast,
    plan=plan,
    work="jobs.methods.gandiffface.generate.work",
    expected_images=expected_images,
    cost=cost,
)
