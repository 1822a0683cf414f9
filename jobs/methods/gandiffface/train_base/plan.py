"""Train-base: train the embedded base, a denoiser conditioned on slots of measured attributes.

The paper takes Stable Diffusion. This base is small enough to be trained in hours on a CPU.
"""

from __future__ import annotations

from pydantic import Field

from cemiface.diffusion.config import DiffusionConfig
from cemiface.errors import ModelError
from cemiface.gandiff.slots import SlotDenoiserConfig, check_initial_base, slot_denoiser_cost
from cemiface.measures.attribute_choice import choose_nets
from jobs.frame.run import Run
from jobs.frame.stage import Cost, Stage
from jobs.frame.stage_config import PathText, Precision, StageConfig, operational
from jobs.methods.gandiffface.attributes.plan import NAME as ATTRIBUTES
from jobs.methods.gandiffface.attributes.plan import cards
from jobs.methods.gandiffface.candidates.plan import check_min_face
from jobs.stages.shard.plan import ShardFaces
from jobs.stages.train_recognition.plan import TrainingUnit
from slurm.files import sha256_of

NAME = "train-base"
BASE = "base.safetensors"  # the EMA weights, with their config in the metadata


class TrainBase(StageConfig):
    """The base and its training."""

    denoiser: SlotDenoiserConfig = Field(
        SlotDenoiserConfig(),
        description=(
            "The U-Net and its slots. `preset: NAME` stands for the fields of a preset (paper112, small64, tiny64, "
            "small32, tiny32); fields beside it win."
        ),
    )
    diffusion: DiffusionConfig = Field(DiffusionConfig(), description="Noise schedule, and what the denoiser predicts.")
    initial_weights: PathText | None = Field(
        None, description="Base to continue from, of the same slots and any image size. null: random weights."
    )
    images: int = Field(
        5_000_000,
        ge=1,
        description=(
            "Training images in all, over all ranks. The default is that of train-diffusion: 16 hours of an A100 at "
            "112 px. small32 shows faces after 100,000."
        ),
    )
    batch: int = Field(160, ge=1, description="Images per step over all ranks. The default is that of train-diffusion.")
    learning_rate: float = Field(
        1e-4, gt=0, description="Learning rate of AdamW. The default is that of train-diffusion; small nets take 1e-3."
    )
    warmup_images: int = Field(0, ge=0, description="Images over which the learning rate rises from 0.")
    weight_decay: float = Field(0.01, ge=0, description="Weight decay of AdamW. The default is PyTorch's.")
    gradient_clipping: float = Field(
        1.0, gt=0, description="Largest norm of the gradient; 1 is usual for diffusion models."
    )
    ema_decay: float = Field(
        0.9999,
        ge=0,
        lt=1,
        description=(
            "Decay per step of the moving average of the weights, which samples are made with, 0 to below 1. "
            "Short trainings need less."
        ),
    )
    slot_dropout: float = Field(
        0.1,
        ge=0,
        lt=1,
        description="Fraction of values that are not stated, each by itself, so that prompts may state any of them.",
    )
    unconditional: float = Field(
        0.1, ge=0, lt=1, description="Fraction of images trained without any slot, which guidance needs."
    )
    min_face: float = Field(
        0.5,
        ge=0,
        le=1,
        description="Smallest face presence, 0 to 1, at which measured attributes are believed; below, none is stated.",
    )
    precision: Precision = Field(
        "auto",
        description="Arithmetic of the training: auto is bf16 on GPUs, and fp32 on CPUs, as few are faster in bf16.",
    )
    micro_batch: int | None = Field(
        None,
        ge=1,
        description=(
            "Images that a rank computes in one pass; its share of the batch is cut into such pieces. null: "
            "the whole share. Smaller needs less memory and changes rounding only."
        ),
        json_schema_extra=operational(),
    )
    channels_last: bool = Field(
        True,
        description="Whether tensors have the channels-last memory layout, which is faster and changes rounding only.",
        json_schema_extra=operational(),
    )
    compile: bool = Field(
        False,
        description="Whether torch.compile is used, which changes rounding only and costs minutes at the start.",
        json_schema_extra=operational(),
    )
    checkpoint_images: int = Field(
        200_000,
        ge=1,
        description=(
            "Images between two checkpoints, which a resumed training starts from. A checkpoint holds four times the "
            "weights."
        ),
        json_schema_extra=operational(),
    )
    log_images: int = Field(
        10_000, ge=1, description="Images between two lines of the metrics file.", json_schema_extra=operational()
    )
    images_per_second: float | None = Field(
        None,
        gt=0,
        description=(
            "Throughput of one GPU, which `cemiface plan` estimates GPU hours from; the stage's summary.json "
            "has the measured one. null: no estimate."
        ),
        json_schema_extra=operational(),
    )
    sample_images: int = Field(
        500_000,
        ge=1,
        description="Images between two sheets of samples, a row per value of a slot, with the share that is as asked.",
        json_schema_extra=operational(),
    )


def plan(run: Run) -> list[TrainingUnit]:
    """One unit: the training.

    Raises:
        ModelError: the faces and the base have different image sizes, or no net measures a slot at this size.
    """
    denoiser, size = run.section(TrainBase).denoiser, run.section(ShardFaces).image_size
    if denoiser.image_size != size:
        raise ModelError(
            f"{NAME}.denoiser.image_size: got {denoiser.image_size}, allowed: that of shard.image_size, {size}; "
            "change one of them"
        )
    try:
        choose_nets(cards(run), size=size, wanted=[slot.attribute for slot in denoiser.slots])
    except ModelError as error:
        raise ModelError(f"{NAME}.denoiser.slots: {error}") from error
    return [TrainingUnit(weights=BASE)]


def files(run: Run) -> dict[str, str]:
    """The hash of the base to continue from, if there is one.

    Raises:
        ConfigError: there is no such file.
    """
    weights, field = run.section(TrainBase).initial_weights, f"{NAME}.initial_weights"
    return {field: sha256_of(run.given_file(field, weights, give=f"a base that {NAME} wrote"))} if weights else {}


def check_launch(run: Run) -> None:
    """Refuse a base of another shape, schedule or other slots to continue from, and what cannot be measured.

    Raises:
        ConfigError: a smallest face presence for faces of a size at which none is measured.
        ModelError: it is such a base.
    """
    config, size = run.section(TrainBase), run.section(ShardFaces).image_size
    check_min_face(run, field=f"{NAME}.min_face", value=config.min_face, size=size)
    if config.initial_weights:
        check_initial_base(run.path(config.initial_weights), config.denoiser, diffusion=config.diffusion)


def cost(run: Run) -> Cost:
    """GPU hours at the config's throughput; disk for the result and three checkpoints of weights, EMA and moments."""
    config = run.section(TrainBase)
    net, rate = slot_denoiser_cost(config.denoiser), config.images_per_second
    weights = 4 * (net.parameters + net.adapter_parameters)
    return Cost(gpu_hours=config.images / rate / 3600 if rate else None, disk_bytes=(3 * 4 + 1) * weights)


STAGE = Stage(
    unit=TrainingUnit,
    name=NAME,
    title="the diffusion model that identities are taught to, trained on the real faces",
    config=TrainBase,
    needs=lambda run: ("shard", ATTRIBUTES),
    files=files,
    plan=plan,
    check_launch=check_launch,
    work="jobs.methods.gandiffface.train_base.work",
    distributed=True,
    expected_images=lambda run: run.section(TrainBase).images,
    cost=cost,
)
