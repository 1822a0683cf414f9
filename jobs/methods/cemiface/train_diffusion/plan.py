"""Train-diffusion: the denoiser, conditioned on identity and similarity, through a DeepSpeed engine."""

from __future__ import annotations

from pydantic import Field

from cemiface.diffusion.config import DiffusionConfig
from cemiface.errors import ModelError
from cemiface.semihard.config import DenoiserConfig, LossConfig, SimilarityGrid
from cemiface.semihard.cost import denoiser_cost
from jobs.frame.run import Run
from jobs.frame.stage import Cost, Stage
from jobs.frame.stage_config import PathText, Precision, StageConfig, operational
from jobs.stages.shard.plan import ShardFaces
from jobs.stages.shared.embedder import embedder_needs
from jobs.stages.train_recognition.plan import TrainingUnit
from slurm.files import sha256_of

NAME = "train-diffusion"
DENOISER = "denoiser.safetensors"  # the EMA weights, with their config in the metadata


class TrainDiffusion(StageConfig):
    denoiser: DenoiserConfig = DenoiserConfig()
    diffusion: DiffusionConfig = DiffusionConfig()
    loss: LossConfig = LossConfig()
    similarity: SimilarityGrid = SimilarityGrid()
    initial_weights: PathText | None = None  # of the same E_id and any image size, to go on from; None: random
    other_embedder: bool = False  # initial_weights were trained with another E_id: this one has to be learned anew
    images: int = Field(5_000_000, ge=1)  # training images seen in all, over all ranks
    batch: int = Field(160, ge=1)  # global
    learning_rate: float = Field(1e-4, gt=0)
    warmup_images: int = Field(0, ge=0)
    weight_decay: float = Field(0.01, ge=0)
    gradient_clipping: float = Field(1.0, gt=0)
    ema_decay: float = Field(0.9999, ge=0, lt=1)
    null_fraction: float = Field(0.1, ge=0, lt=1)  # of samples trained without condition, for new identities
    precision: Precision = "auto"
    # How it is computed, which changes rounding only.
    micro_batch: int | None = Field(
        None, ge=1, json_schema_extra=operational()
    )  # images per rank in one pass; None: its whole share
    channels_last: bool = Field(True, json_schema_extra=operational())
    compile: bool = Field(
        False, json_schema_extra=operational()
    )  # torch.compile: minutes at start, for long trainings on GPUs
    checkpoint_images: int = Field(200_000, ge=1, json_schema_extra=operational())
    log_images: int = Field(10_000, ge=1, json_schema_extra=operational())
    images_per_second: float | None = Field(
        None, gt=0, json_schema_extra=operational()
    )  # of one GPU, for the dry run's GPU hours
    sample_images: int = Field(
        500_000, ge=1, json_schema_extra=operational()
    )  # a grid of sampled faces every so many images


def plan(run: Run) -> list[TrainingUnit]:
    """One unit: the training.

    Raises:
        ModelError: the faces have another size than the denoiser works at.
    """
    size, faces = run.section(TrainDiffusion).denoiser.image_size, run.section(ShardFaces).image_size
    if size != faces:
        raise ModelError(
            f"{NAME}.denoiser.image_size: got {size}, allowed: that of shard.image_size, {faces}; change one of them"
        )
    return [TrainingUnit(weights=DENOISER)]


def files(run: Run) -> dict[str, str]:
    """The denoiser to go on from, by its hash.

    Raises:
        ConfigError: the config names a file that is not there.
    """
    weights = run.section(TrainDiffusion).initial_weights
    if not weights:
        return {}
    field = f"{NAME}.initial_weights"
    return {field: sha256_of(run.given_file(field, weights, give=f"a denoiser that {NAME} wrote"))}


def cost(run: Run) -> Cost:
    """GPU hours at the config's throughput; disk: three checkpoints of weights, EMA and Adam's two, and the result."""
    config = run.section(TrainDiffusion)
    net = denoiser_cost(config.denoiser)
    weights = 4 * (net.parameters + net.adapter_parameters)
    rate = config.images_per_second
    return Cost(gpu_hours=config.images / rate / 3600 if rate else None, disk_bytes=(3 * 4 + 1) * weights)


STAGE = Stage(
    unit=TrainingUnit,
    name=NAME,
    title="the denoiser, through DeepSpeed",
    config=TrainDiffusion,
    needs=lambda run: ("shard", *embedder_needs(run), "embed"),
    files=files,
    plan=plan,
    work="jobs.methods.cemiface.train_diffusion.work",
    distributed=True,
    expected_images=lambda run: run.section(TrainDiffusion).images,
    cost=cost,
)
