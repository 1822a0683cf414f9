"""Personalize: teach each identity to the base from its portraits; what is learned is a small adapter per identity.

The composition of every batch belongs to the unit, so the bytes are the same for any number of ranks.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pydantic import Field

from cemiface.gandiff.personal.config import PersonalConfig, adapter_numbers, evaluations
from cemiface.gandiff.slots import SlotDenoiserConfig, base_config_of, slot_denoiser_cost
from jobs.frame.run import Run
from jobs.frame.stage import Cost, Stage
from jobs.frame.stage_config import PathText, Precision, StageConfig, operational
from jobs.frame.unit import Unit
from jobs.methods.gandiffface.identities.plan import identities_of
from jobs.methods.gandiffface.portraits.plan import NAME as PORTRAITS
from jobs.methods.gandiffface.portraits.plan import MakePortraits
from jobs.methods.gandiffface.train_base.plan import BASE, TrainBase
from jobs.methods.gandiffface.train_base.plan import NAME as TRAIN_BASE
from jobs.stages.shared.embedder import embedder_needs
from slurm.files import sha256_of

NAME = "personalize"
GIGA = 1e9


class Personalize(StageConfig):
    """The base, and how it learns each identity."""

    base: PathText | None = Field(
        None, description="Base to teach the identities to, a file of train-base. null: the run's own."
    )
    tuning: PersonalConfig = Field(PersonalConfig(), description="What is trained per identity, and for how long.")
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


def needs(run: Run) -> tuple[str, ...]:
    own = () if run.section(Personalize).base else (TRAIN_BASE,)
    return (PORTRAITS, *own, *embedder_needs(run))


def files(run: Run) -> dict[str, str]:
    """The hash of the given base.

    Raises:
        ConfigError: it does not exist.
    """
    return {f"{NAME}.base": sha256_of(base_path(run))} if run.section(Personalize).base else {}


def base_path(run: Run) -> Path:
    """The file of the base: the config's, or that of the stage train-base.

    Raises:
        ConfigError: the config names a file that is not there.
    """
    given = run.section(Personalize).base
    if given:
        return run.given_file(f"{NAME}.base", given, give="a base that train-base wrote")
    return run.stage_folder(TRAIN_BASE).output(BASE)


def expected_images(run: Run) -> int:
    """The portraits, which each identity is learned from."""
    return identities_of(run) * run.section(MakePortraits).count


def cost(run: Run) -> Cost:
    """GPU hours at the config's throughput; disk for the packs."""
    config, people = run.section(Personalize), identities_of(run)
    rate, tuning = config.images_per_second, config.tuning
    hours = people * tuning.steps * tuning.batch / rate / 3600 if rate else None
    bytes_each = 2 if config.stored == "float16" else 4
    return Cost(gpu_hours=hours, disk_bytes=people * _numbers(run) * bytes_each)


def _numbers(run: Run) -> int:
    base = _base_config(run)
    return adapter_numbers(run.section(Personalize).tuning, slot_denoiser_cost(base), width=base.slot_width)


def _base_config(run: Run) -> SlotDenoiserConfig:
    """Of the given base, from the head of its file, or of the run's own."""
    if run.section(Personalize).base:
        return base_config_of(base_path(run))
    return run.section(TrainBase).denoiser


def forecast(run: Run) -> str:
    """How much there is to compute, and how it is calculated."""
    config, people = run.section(Personalize), identities_of(run)
    each = evaluations(config.tuning)
    net = slot_denoiser_cost(_base_config(run))
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
    needs=needs,
    files=files,
    forecast=forecast,
    plan=plan,
    work="jobs.methods.gandiffface.personalize.work",
    expected_images=expected_images,
    cost=cost,
)
