"""Train-diffusion: train the denoiser, which is conditioned on an identity and a similarity m."""

from __future__ import annotations

from pydantic import Field

from cemiface.diffusion.config import DiffusionConfig
from cemiface.errors import ModelError
from cemiface.semihard.config import DenoiserConfig, LossConfig, SimilarityGrid
from cemiface.semihard.cost import denoiser_cost
from cemiface.semihard.stored import refuse_other, stored_denoiser
from jobs.frame.run import Run
from jobs.frame.stage import Cost, Stage
from jobs.frame.stage_config import PathText, Precision, StageConfig, operational
from jobs.stages.shard.plan import ShardFaces
from jobs.stages.shared.embedder import embedder_needs, embedder_path
from jobs.stages.shared.given_nets import embedding_width
from jobs.stages.shared.known_early import check_ranks
from jobs.stages.train_recognition.plan import TrainingUnit
from slurm.files import sha256_of

NAME = "train-diffusion"
DENOISER = "denoiser.safetensors"  # the EMA weights, with their config in the metadata


class TrainDiffusion(StageConfig):
    """The denoiser, its loss and its training."""

    denoiser: DenoiserConfig = Field(
        DenoiserConfig(),
        description=(
            "The U-Net and its condition adapter. `preset: NAME` stands for the fields of a preset (paper112, "
            "small64, tiny64, small32, tiny32); fields beside it win."
        ),
    )
    diffusion: DiffusionConfig = Field(DiffusionConfig(), description="Noise schedule, and what the denoiser predicts.")
    loss: LossConfig = Field(LossConfig(), description="Similarity loss (paper, equation 14).")
    similarity: SimilarityGrid = Field(
        SimilarityGrid(), description="Values of m that are drawn in training (paper, sections 4.1 and 4.3.1)."
    )
    initial_weights: PathText | None = Field(
        None, description="Denoiser to continue from, of the same E_id and any image size. null: random weights."
    )
    other_embedder: bool = Field(
        False,
        description=(
            "Set it to true where `initial_weights` was trained with another E_id; the denoiser has to learn "
            "the new embeddings."
        ),
    )
    images: int = Field(
        5_000_000,
        ge=1,
        description=(
            "Training images in all, over all ranks. The default is about 10 epochs of CASIA, as in the paper "
            "(appendix A.1): 16 hours of an A100 at 112 px."
        ),
    )
    batch: int = Field(
        160,
        ge=1,
        description="Images per step over all ranks. The default is the paper's (appendix A.1), on two A100.",
    )
    learning_rate: float = Field(
        1e-4,
        gt=0,
        description=(
            "Learning rate of AdamW. The paper does not state it; the default is that of DCFace's training script."
        ),
    )
    warmup_images: int = Field(
        0, ge=0, description="Images over which the learning rate rises from 0. The paper has no warm-up."
    )
    weight_decay: float = Field(
        0.01,
        ge=0,
        description="Weight decay of AdamW. The paper does not state it; the default is PyTorch's, as in DCFace.",
    )
    gradient_clipping: float = Field(
        1.0,
        gt=0,
        description="Largest norm of the gradient. The paper does not state it; 1 is usual for diffusion models.",
    )
    ema_decay: float = Field(
        0.9999,
        ge=0,
        lt=1,
        description=(
            "Decay per step of the moving average of the weights, which samples are made with, 0 to below 1. "
            "The paper does not state it; the default is DCFace's. Short trainings need less."
        ),
    )
    null_fraction: float = Field(
        0.1,
        ge=0,
        lt=1,
        description=(
            "Fraction of samples, 0 to below 1, that are trained without a condition, so that "
            "identities.source: denoiser can sample people who do not exist. Not in the paper."
        ),
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
        description=(
            "Whether torch.compile is used, which changes rounding only. It costs minutes at the start, and "
            "pays off in long trainings on GPUs."
        ),
        json_schema_extra=operational(),
    )
    checkpoint_images: int = Field(
        200_000,
        ge=1,
        description=(
            "Images between two checkpoints, which a resumed training starts from. A checkpoint holds four "
            "times the weights: 1.5 GB for the paper's net."
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
        description="Images between two grids of sampled faces, which show how the training goes.",
        json_schema_extra=operational(),
    )


def plan(run: Run) -> list[TrainingUnit]:
    """One unit: the training.

    Raises:
        ModelError: the faces and the denoiser have different image sizes.
    """
    size, faces = run.section(TrainDiffusion).denoiser.image_size, run.section(ShardFaces).image_size
    if size != faces:
        raise ModelError(
            f"{NAME}.denoiser.image_size: got {size}, allowed: that of shard.image_size, {faces}; change one of them"
        )
    return [TrainingUnit(weights=DENOISER)]


def files(run: Run) -> dict[str, str]:
    """The hash of the denoiser to continue from, if there is one.

    Raises:
        ConfigError: there is no such file.
    """
    weights = run.section(TrainDiffusion).initial_weights
    if not weights:
        return {}
    field = f"{NAME}.initial_weights"
    return {field: sha256_of(run.given_file(field, weights, give=f"a denoiser that {NAME} wrote"))}


def check_launch(run: Run) -> None:
    """Refuse a batch that cannot be shared, and weights to continue from that do not fit.

    Raises:
        ConfigError: a batch that does not divide by the ranks.
        ModelError: initial weights of another shape, schedule or E_id.
    """
    config = run.section(TrainDiffusion)
    check_ranks(run, NAME, batch=config.batch, micro_batch=config.micro_batch)
    if not config.initial_weights:
        return
    path = run.given_file(f"{NAME}.initial_weights", config.initial_weights, give=f"a denoiser that {NAME} wrote")
    stored = stored_denoiser(path)
    # The width of embeddings is that of E_id, whatever the config says.
    shape = config.denoiser.model_copy(update={"embedding": embedding_width(run) or stored.config.embedding})
    given = run.config.embedder.weights and not config.other_embedder
    embedder = sha256_of(embedder_path(run)) if given else None
    refuse_other(stored, shape, diffusion=config.diffusion, embedder=embedder, path=path)


def cost(run: Run) -> Cost:
    """GPU hours at the config's throughput; disk for the result and three checkpoints of weights, EMA and moments."""
    config = run.section(TrainDiffusion)
    net = denoiser_cost(config.denoiser)
    weights = 4 * (net.parameters + net.adapter_parameters)
    rate = config.images_per_second
    return Cost(gpu_hours=config.images / rate / 3600 if rate else None, disk_bytes=(3 * 4 + 1) * weights)


STAGE = Stage(
    unit=TrainingUnit,
    name=NAME,
    title="the denoiser, trained on the real faces",
    config=TrainDiffusion,
    needs=lambda run: ("shard", *embedder_needs(run), "embed"),
    files=files,
    check_launch=check_launch,
    plan=plan,
    work="jobs.methods.cemiface.train_diffusion.work",
    distributed=True,
    expected_images=lambda run: run.section(TrainDiffusion).images,
    cost=cost,
)
