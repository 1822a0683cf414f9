"""Train-gan: train the style-based GAN that identities are drawn from."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field

from cemiface.errors import ModelError
from cemiface.gandiff.gan.config import GanConfig, GanLossConfig
from cemiface.gandiff.gan.cost import gan_parameters
from cemiface.gandiff.gan.head import check_initial_gan
from jobs.frame.run import Run
from jobs.frame.stage import Cost, Stage
from jobs.frame.stage_config import PathText, Precision, StageConfig, as_before, operational
from jobs.stages.shard.plan import ShardFaces
from jobs.stages.shared.embedder import embedder_needs
from jobs.stages.train_recognition.plan import TrainingUnit
from slurm.files import sha256_of

NAME = "train-gan"
GENERATOR = "generator.safetensors"  # the EMA weights, with their config in the metadata
CRITIC = "critic.safetensors"  # private; a later training can continue from both


class TrainGan(StageConfig):
    """Generator and critic, their losses and their training."""

    gan: GanConfig = Field(
        GanConfig(),
        description=(
            "Generator and critic. `preset: NAME` stands for the fields of a preset (gan128, gan112, small64, small32, "
            "tiny32); fields beside it win."
        ),
    )
    initial_weights: PathText | None = Field(
        None,
        description=(
            "Generator to continue from, the file of an earlier train-gan of the same `gan`; its critic.safetensors "
            "must lie beside it. null: random weights."
        ),
        json_schema_extra=as_before(None),
    )
    loss: GanLossConfig = Field(GanLossConfig(), description="Loss, gradient penalties and augmentation.")
    images: int = Field(
        25_000_000,
        ge=1,
        description=(
            "Real images shown to the critic in all, over all ranks. The default is StyleGAN2's; small nets at 64 px "
            "show faces after 100,000."
        ),
    )
    batch: int = Field(
        32,
        ge=1,
        description=(
            "Images per step over all ranks. The default is StyleGAN2's. On CPUs, begin with 8, with which faces form "
            "sooner, and continue with 32 (`initial_weights`) after 100,000 images, as 8 then loses variety: "
            "nets/README.md."
        ),
    )
    learning_rate: float = Field(
        0.002, gt=0, description="Learning rate of Adam, for both nets. The default is StyleGAN2's."
    )
    warmup_images: int = Field(0, ge=0, description="Images over which the learning rate rises from 0.")
    ema_images: int = Field(
        10_000,
        ge=1,
        description=(
            "Images after which a step's share in the moving average of the generator's weights has halved. Pictures "
            "are made with the average. The default is StyleGAN2's."
        ),
    )
    precision: Precision = Field(
        "auto",
        description=(
            "Arithmetic of the training: auto is bf16 on GPUs, and fp32 on CPUs, as few are faster in bf16. "
            "The gradient penalties are always fp32."
        ),
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
    checkpoint_images: int = Field(
        100_000,
        ge=1,
        description=(
            "Images between two checkpoints, which a resumed training starts from. A checkpoint holds seven times the "
            "weights of a net: both nets with their moments, and the average."
        ),
        json_schema_extra=operational(),
    )
    log_images: int = Field(
        5_000, ge=1, description="Images between two lines of the metrics file.", json_schema_extra=operational()
    )
    images_per_second: float | None = Field(
        None,
        gt=0,
        description=(
            "Throughput of one GPU, which `cemiface plan` estimates GPU hours from; the metrics file has the measured "
            "one. null: no estimate."
        ),
        json_schema_extra=operational(),
    )
    sample_images: int = Field(
        100_000,
        ge=1,
        description="Images between two sheets of generated faces, which show how the training goes.",
        json_schema_extra=operational(),
    )
    frechet_images: int = Field(
        200_000,
        ge=1,
        description="Images between two measurements of the Fréchet distance to the real faces, under E_id.",
        json_schema_extra=operational(),
    )
    frechet_samples: int = Field(
        5_000,
        ge=2,
        description=(
            "Faces generated for a Fréchet distance. Fewer give a larger distance, so compare equal numbers only. "
            "10,000 take two minutes of a CPU core at 64 px."
        ),
        json_schema_extra=operational(),
    )


def plan(run: Run) -> list[TrainingUnit]:
    """One unit: the training.

    Raises:
        ModelError: the faces and the GAN have different image sizes.
    """
    size, faces = run.section(TrainGan).gan.image_size, run.section(ShardFaces).image_size
    if size != faces:
        raise ModelError(
            f"{NAME}.gan.image_size: got {size}, allowed: that of shard.image_size, {faces}; change one of them"
        )
    return [TrainingUnit(weights=GENERATOR)]


def initial_weights(run: Run) -> tuple[Path, Path] | None:
    """The generator and the critic to continue from, if the config names them.

    Raises:
        ConfigError: one of the files is missing.
    """
    given, field = run.section(TrainGan).initial_weights, f"{NAME}.initial_weights"
    if given is None:
        return None
    generator = run.given_file(field, given, give=f"the {GENERATOR} of a {NAME}")
    beside = str(Path(given).parent / CRITIC)
    return generator, run.given_file(field, beside, give=f"the {CRITIC} of the same training, beside the generator")


def files(run: Run) -> dict[str, str]:
    """The hashes of the nets to continue from, if there are any."""
    names = (f"{NAME}.initial_weights", f"{NAME}.initial_weights, critic")
    return {name: sha256_of(path) for name, path in zip(names, initial_weights(run) or (), strict=False)}


def check_launch(run: Run) -> None:
    """Refuse nets of another shape to continue from."""
    for path in initial_weights(run) or ():
        check_initial_gan(path, run.section(TrainGan).gan)


def cost(run: Run) -> Cost:
    """GPU hours at the config's throughput; disk for the result and three checkpoints of both nets."""
    config = run.section(TrainGan)
    generator, critic = gan_parameters(config.gan)
    rate, checkpoint = config.images_per_second, 4 * generator + 3 * critic
    hours = config.images / rate / 3600 if rate else None
    return Cost(gpu_hours=hours, disk_bytes=4 * (3 * checkpoint + generator))


STAGE = Stage(
    unit=TrainingUnit,
    name=NAME,
    title="the generator of faces, trained on the real ones as a style-based GAN",
    config=TrainGan,
    needs=lambda run: ("shard", *embedder_needs(run), "embed"),
    files=files,
    plan=plan,
    check_launch=check_launch,
    work="jobs.methods.gandiffface.train_gan.work",
    distributed=True,
    expected_images=lambda run: run.section(TrainGan).images,
    cost=cost,
)
