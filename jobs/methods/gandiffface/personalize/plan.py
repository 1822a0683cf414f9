"""Personalize: teach each identity to the base from its portraits; what is learned is a small adapter per identity.

The composition of every batch belongs to the unit, so the bytes are the same for any number of ranks.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, model_validator

from cemiface.gandiff.personal.config import PersonalConfig, adapter_numbers, evaluations
from cemiface.gandiff.slots import DEFAULT_SLOTS, Slot, SlotDenoiserConfig, base_config_of, slot_denoiser_cost
from cemiface.gandiff.text.text_base_cost import Hours, adapter_size
from jobs.frame.errors import ConfigError
from jobs.frame.run import Run
from jobs.frame.stage import Cost, Stage
from jobs.frame.stage_config import PathText, Precision, StageConfig, as_before, operational
from jobs.frame.unit import Unit
from jobs.methods.gandiffface.identities.plan import identities_of
from jobs.methods.gandiffface.personalize.text_base import (
    FIELD,
    BaseSource,
    StableDiffusion,
    cost_of,
    folder_hash,
    folder_of,
    hours_of,
    with_text_defaults,
)
from jobs.methods.gandiffface.portraits.plan import NAME as PORTRAITS
from jobs.methods.gandiffface.portraits.plan import MakePortraits
from jobs.methods.gandiffface.train_base.plan import BASE, TrainBase
from jobs.methods.gandiffface.train_base.plan import NAME as TRAIN_BASE
from jobs.stages.shared.embedder import embedder_needs
from jobs.stages.shared.given_nets import given_embedder
from slurm.files import sha256_of

NAME = "personalize"
GIGA = 1e9


class Personalize(StageConfig):
    """The base, and how it learns each identity."""

    base: PathText | None = Field(
        None, description="Base to teach the identities to, a file of train-base. null: the run's own."
    )
    text_base: StableDiffusion | None = Field(
        None,
        description="Stable Diffusion as the base instead, a folder of yours. null: `base`.",
        json_schema_extra=as_before(None),
    )
    text_base_source: BaseSource | None = Field(
        None,
        description="Where the folder of `text_base` is from; the folder does not say it. null: unknown.",
        json_schema_extra=operational(),
    )
    tuning: PersonalConfig = Field(
        PersonalConfig(),
        description=(
            "What is trained per identity, and for how long. With `text_base` other defaults hold: branches of rank 4 "
            "on the attention, 800 steps of batch 1 at a learning rate of 1e-4, the vector's at 5e-4, prior_weight 1, "
            "check_steps 100. They are chosen for their cost, and not tuned on real weights."
        ),
    )
    identities_per_unit: int = Field(
        8, ge=1, description="Identities per unit of work, and per pack of adapters; an interrupted batch is redone."
    )
    identities_per_batch: int = Field(
        4,
        ge=1,
        description=(
            "Identities that are learned in one batch. More is faster on GPUs; another number rounds differently. "
            "Method full takes one at a time."
        ),
    )
    stored: Literal["float16", "float32"] = Field(
        "float16", description="Precision of the stored adapters; float16 is half as large."
    )
    precision: Precision = Field(
        "auto",
        description="Arithmetic of the base: auto is bf16 on GPUs, and fp32 on CPUs, as few are faster in bf16.",
    )
    images_per_second: float | None = Field(
        None,
        gt=0,
        description=(
            "Noised portraits per second that one GPU learns from, which `cemiface plan` estimates GPU hours from; the "
            "stage's summary.json has the measured one. null: no estimate."
        ),
        json_schema_extra=operational(),
    )

    @model_validator(mode="before")
    @classmethod
    def _text_defaults(cls, given: Any) -> Any:
        """The defaults of `tuning` for text bases, in the config itself, so that fingerprints have what was used."""
        if not isinstance(given, dict) or given.get("text_base") is None:
            return given
        return {**given, "tuning": with_text_defaults(given.get("tuning", {}))}

    @model_validator(mode="after")
    def _one_base(self) -> Personalize:
        if self.base is not None and self.text_base is not None:
            raise ValueError(f"text_base: got {self.text_base.folder} beside base {self.base}; allowed: one of them")
        if self.text_base_source is not None and self.text_base is None:
            raise ValueError(
                "text_base_source: got one without text_base; a file of train-base says itself where it is from"
            )
        return self


@dataclass(frozen=True, kw_only=True)
class AdaptersUnit(Unit):
    """The adapters of the identities `first` to `last`, both included, in one pack."""

    pack: str
    first: int
    last: int

    @property
    def curves(self) -> str:
        """The file of the identities' curves."""
        return self.pack.replace("adapters-", "curves-").replace(".safetensors", ".json")


def plan(run: Run) -> list[AdaptersUnit]:
    """Blocks of identities."""
    count, size = identities_of(run), run.section(Personalize).identities_per_unit
    return [
        AdaptersUnit(pack=f"adapters-{number:05d}.safetensors", first=start, last=min(start + size, count) - 1)
        for number, start in enumerate(range(0, count, size))
    ]


def base_needs(run: Run) -> tuple[str, ...]:
    """The stage that trains the base; none where it is given."""
    config = run.section(Personalize)
    return () if config.base or config.text_base else (TRAIN_BASE,)


def files(run: Run) -> dict[str, str]:
    """The hash of the given base.

    Raises:
        ConfigError, ModelError: it does not exist, or its folder is refused.
    """
    config = run.section(Personalize)
    if config.text_base:
        return {f"{NAME}.text_base": base_hash(run)}
    return {f"{NAME}.base": base_hash(run)} if config.base else {}


def check_launch(run: Run) -> None:
    """Refuse a given file that is no base, and an E_id that cannot be loaded.

    Raises:
        ConfigError: there is no such file.
        ModelError: it is another file.
    """
    given_embedder(run)
    if run.section(Personalize).base:
        base_config_of(base_path(run))


def base_hash(run: Run) -> str:
    """The hash of the base, which packs of adapters name.

    Raises:
        ConfigError, ModelError: as `files`.
    """
    given = run.section(Personalize).text_base
    return folder_hash(folder_of(run, given)) if given else sha256_of(base_path(run))


def base_path(run: Run) -> Path:
    """The file of the base: the config's, or that of the stage train-base.

    Raises:
        ConfigError: the config names a file that is not there, or a folder.
    """
    given = run.section(Personalize).base
    if given and run.path(given).is_dir():
        raise ConfigError(f"{NAME}.base: got {given}, a folder; give a Stable Diffusion folder as {FIELD}.folder")
    if given:
        return run.given_file(f"{NAME}.base", given, give="a base that train-base wrote")
    return run.stage_folder(TRAIN_BASE).output(BASE)


def base_slots(run: Run) -> tuple[Slot, ...]:
    """What the base can be told of a face; of an own or a given one, its file must be there.

    Raises:
        ConfigError, ModelError: it is not, or it is no base.
    """
    return DEFAULT_SLOTS if run.section(Personalize).text_base else base_config_of(base_path(run)).slots


def expected_images(run: Run) -> int:
    """The portraits, which each identity is learned from."""
    return identities_of(run) * run.section(MakePortraits).count


def cost(run: Run) -> Cost:
    """GPU hours at the config's throughput, else as calculated for a text base; disk for the packs."""
    config, people = run.section(Personalize), identities_of(run)
    rate, tuning = config.images_per_second, config.tuning
    hours = people * tuning.steps * tuning.batch / rate / 3600 if rate else None
    if hours is None and config.text_base:
        hours = _hours(run, config.text_base).personalize
    bytes_each = 2 if config.stored == "float16" else 4
    return Cost(gpu_hours=hours, disk_bytes=people * _numbers(run) * bytes_each)


def _hours(run: Run, given: StableDiffusion) -> Hours:
    portraits, tuning = run.section(MakePortraits).count, run.section(Personalize).tuning
    cost = cost_of(folder_of(run, given), given)
    return hours_of(cost, given, tuning, people=identities_of(run), portraits=portraits)


def _numbers(run: Run) -> int:
    config = run.section(Personalize)
    if config.text_base:
        folder = folder_of(run, config.text_base)
        return adapter_size(cost_of(folder, config.text_base), config.tuning, width=folder.token_width)
    base = base_config(run)
    return adapter_numbers(run.section(Personalize).tuning, slot_denoiser_cost(base), width=base.slot_width)


def base_config(run: Run) -> SlotDenoiserConfig:
    """Of the embedded base: of the given one, from the head of its file, or of the run's own."""
    if run.section(Personalize).base:
        return base_config_of(base_path(run))
    return run.section(TrainBase).denoiser


def forecast(run: Run) -> str:
    """How much there is to compute, and how it is calculated."""
    config, people = run.section(Personalize), identities_of(run)
    if config.text_base:
        lines = _hours(run, config.text_base).learning
        return "\n".join([f"{NAME} on an A100; {_numbers(run)} numbers per adapter", *lines])
    each = evaluations(config.tuning)
    net = slot_denoiser_cost(base_config(run))
    work = 2 * net.macs * each * people / GIGA**2
    tuning = config.tuning
    return (
        f"{people} identities x {tuning.steps} steps x {tuning.batch} noised portraits"
        f"{' and as many class pictures' if tuning.prior_weight else ''}, {_numbers(run)} numbers per adapter; "
        f"{each} forward passes per identity (a training sample counts as 3) of {net.macs / GIGA:.2f} GMAC: "
        f"{work:.3g} EFLOP in all"
    )


STAGE = Stage(
    unit=AdaptersUnit,
    name=NAME,
    title="an adapter per identity, learned from its portraits",
    config=Personalize,
    needs=lambda run: (PORTRAITS, *base_needs(run), *embedder_needs(run)),
    files=files,
    forecast=forecast,
    plan=plan,
    check_launch=check_launch,
    work="jobs.methods.gandiffface.personalize.work",
    expected_images=expected_images,
    cost=cost,
)
