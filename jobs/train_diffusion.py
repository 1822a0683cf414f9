"""Train-diffusion: the denoiser, conditioned on identity and similarity, through a DeepSpeed engine."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from pydantic import Field

from cemiface.config import DenoiserConfig, DiffusionConfig, LossConfig, SimilarityGrid
from cemiface.cost import denoiser_cost
from cemiface.errors import ModelError
from jobs.device import Precision
from jobs.embed_faces import MERGED
from jobs.embedder import embedder_needs, embedder_path
from jobs.sampling import DENOISER
from jobs.seeds import derive
from jobs.shard_faces import REAL
from jobs.stage import OPERATIONAL, Cost, PathText, Run, Stage, StageConfig, Unit
from slurm.files import sha256_of

if TYPE_CHECKING:
    import torch

    from jobs.rank import Rank, Work

NAME = "train-diffusion"
TERMS = ("loss", "mse", "reconstruction", "similarity", "cosine")  # of equation 14, in the log
log = logging.getLogger(__name__)


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
    micro_batch: int | None = Field(None, ge=1, **OPERATIONAL)  # images per rank in one pass; None: its whole share
    channels_last: bool = Field(True, **OPERATIONAL)
    compile: bool = Field(False, **OPERATIONAL)  # torch.compile: minutes at start, for long trainings on GPUs
    checkpoint_images: int = Field(200_000, ge=1, **OPERATIONAL)
    log_images: int = Field(10_000, ge=1, **OPERATIONAL)
    images_per_second: float | None = Field(None, gt=0, **OPERATIONAL)  # of one GPU, for the dry run's GPU hours
    sample_images: int = Field(500_000, ge=1, **OPERATIONAL)  # a grid of sampled faces every so many images


def plan(run: Run) -> list[Unit]:
    """One unit: the training.

    Raises:
        ModelError: the faces have another size than the denoiser works at.
    """
    size, faces = run.section(NAME).denoiser.image_size, run.section("shard").image_size
    if size != faces:
        raise ModelError(
            f"{NAME}.denoiser.image_size: got {size}, allowed: that of shard.image_size, {faces}; change one of them"
        )
    return [{"weights": DENOISER}]


def files(run: Run) -> dict[str, str]:
    """The denoiser to go on from, by its hash.

    Raises:
        ConfigError: the config names a file that is not there.
    """
    weights = run.section(NAME).initial_weights
    if not weights:
        return {}
    field = f"{NAME}.initial_weights"
    return {field: sha256_of(run.given_file(field, weights, give=f"a denoiser that {NAME} wrote"))}


def run_rank(run: Run, rank: Rank) -> None:
    for work in rank.remaining():
        train(run, rank, work)


def train(run: Run, rank: Rank, work: Work) -> None:
    import torch

    from cemiface.denoiser import Denoiser, denoiser_bytes, start_from
    from cemiface.diffusion import Schedule
    from cemiface.ema import Ema
    from cemiface.losses import cemiface_loss
    from jobs.device import tuned
    from jobs.embedder import load_embedder, to_unit_range
    from jobs.sample_grids import SampleGrids
    from jobs.training import Metrics, Watch, crossed, join, start_engine
    from jobs.training_state import TrainingState
    from shards.embeddings import open_merged
    from shards.loader import batches
    from shards.shard_set import ShardSet
    from slurm.checkpoints import Checkpoints

    config: TrainDiffusion = run.section(NAME)
    world = join(rank)

    # Data: real faces, and E_id of each of them and of its mirror image, computed once by the embed stage.
    shards = ShardSet(run.outputs("shard", prefix=REAL, suffix=".tar"))
    merged = open_merged(run.stage_folder("embed").output(MERGED))
    assert merged.keys == shards.keys

    # Nets. The width of the identity embedding is E_id's, whatever the config says.
    embedder = load_embedder(run, device=world.device)
    torch.manual_seed(derive(run.seed, "denoiser weights"))
    shape = config.denoiser.model_copy(update={"embedding": embedder.embedding})
    denoiser = Denoiser(shape).to(world.device)
    embedder_sha256 = sha256_of(embedder_path(run))
    if config.initial_weights:
        expected = None if config.other_embedder else embedder_sha256
        start_from(denoiser, run.path(config.initial_weights), diffusion=config.diffusion, embedder=expected)
    ema = Ema(denoiser, decay=config.ema_decay)
    optimizer = torch.optim.AdamW(
        denoiser.parameters(),
        lr=config.learning_rate,
        weight_decay=config.weight_decay,
        fused=True,  # one pass over memory: a third of the time on CPUs, too
    )
    engine = start_engine(
        denoiser,
        optimizer=optimizer,
        batch=config.batch,
        micro_batch=config.micro_batch,
        gradient_clipping=config.gradient_clipping,
        world=world,
    )
    # After the engine, which cannot take over tensors in another memory format.
    tuned(denoiser, channels_last=config.channels_last, compiled=config.compile)
    tuned(ema.module, channels_last=config.channels_last, compiled=False)
    schedule = Schedule(config.diffusion, device=world.device)

    # State: the newest whole checkpoint of this very training; a longer training may go on from a shorter one.
    checkpoints = Checkpoints(rank.folder.checkpoints, key=checkpoint_key(rank.fingerprint(work.unit)))
    modules = {"denoiser": denoiser, "ema": ema.module}
    state = TrainingState(checkpoints, modules=modules, optimizer=optimizer, world=world)
    end = -(-config.images // config.batch) * config.batch  # whole batches
    images = state.restore(at_most=end)  # a shortened training must not take a longer one's weights
    metrics = Metrics(rank.folder.metrics, images=images) if world.rank == 0 else None
    grids = SampleGrids(run, shards=shards, identity=merged.features, schedule=schedule, images=images)
    watch = Watch(rank, world, total=end)
    start_images = images

    order = derive(run.seed, "diffusion order")
    stream = batches(
        shards, batch=config.batch, seed=order, start=images, rank=world.rank, world_size=world.size, flip=True
    )
    while images < end:
        watch.between_steps(state, images=images, batch=config.batch, every=config.checkpoint_images)

        # Algorithm 1: images, noise, t and m; each drawn per sample from (seed, position).
        batch = next(stream)
        x0 = to_unit_range(batch.images, device=world.device)
        identity = torch.from_numpy(merged.of(batch.indices, flips=batch.flips)).to(world.device)
        share = config.batch // world.size
        first = batch.position + world.rank * share
        draws = draw(range(first, first + share), shape=x0.shape[1:], config=config, seed=run.seed)
        noise, t, m, null = (tensor.to(world.device) for tensor in draws)
        x_t = schedule.add_noise(x0, noise, t)  # eq. 4

        # Equation 14, in pieces where a rank's share does not fit its memory; one step; EMA.
        rate = config.learning_rate * min(1.0, (images + config.batch) / max(1, config.warmup_images))
        for group in optimizer.param_groups:
            group["lr"] = rate
        micro = config.micro_batch or share
        terms = torch.zeros(len(TERMS), device=world.device)
        for start in range(0, share, micro):
            piece = slice(start, start + micro)
            with world.autocast(config.precision):
                losses = cemiface_loss(
                    engine(x_t[piece], t[piece], identity[piece], m[piece], null[piece]),
                    noise=noise[piece],
                    x_t=x_t[piece],
                    t=t[piece],
                    m=m[piece],
                    identity=identity[piece],
                    embedder=embedder,
                    schedule=schedule,
                    config=config.loss,
                    weight_mask=(~null[piece]).float(),
                )
            engine.backward(losses.total)
            engine.step()  # of the last piece; of the others it only counts
            terms += losses.terms() * (micro / share)
        ema.update(denoiser, step=images // config.batch)
        images += config.batch

        loss = watch.loss(terms[0], images=images)
        if crossed(images, config.batch, every=config.log_images):
            means = (world.total(terms) / world.size).tolist()
            if metrics:
                metrics.write({"images": images, **dict(zip(TERMS, means, strict=True))})
        if world.rank == 0 and (images == end or crossed(images, config.batch, every=config.sample_images)):
            grids.write(ema.module, embedder=embedder, images=images)

    stream.close()
    state.save(images)
    if world.rank == 0:
        assert isinstance(ema.module, Denoiser)
        data = denoiser_bytes(ema.module, diffusion=config.diffusion, embedder=embedder_sha256)
        work.publish(DENOISER, data)
        net, adapter = denoiser.parameter_counts()
        work.done(
            images=images,
            counts={"trained": images},
            earlier_seconds=state.earlier_seconds,
            figures={
                "loss": loss if images > start_images else None,
                "parameters": net,
                "adapter_parameters": adapter,
                "world_size": world.size,
                "resumed_after_images": start_images,
            },
        )


def draw(
    positions: range, *, shape: torch.Size, config: TrainDiffusion, seed: int
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """Noise (N, 3, S, S), t, m and null (N,) of the images at these positions, from (seed, position) alone."""
    import torch

    from cemiface.losses import draw_similarity

    generators = [torch.Generator().manual_seed(derive(seed, "diffusion draw", position)) for position in positions]
    uniform = torch.stack([torch.rand(3, generator=generator) for generator in generators])
    noise = torch.stack([torch.randn(shape, generator=generator) for generator in generators])
    t = (uniform[:, 0].double() * config.diffusion.timesteps).long()
    m = draw_similarity(uniform[:, 1], grid=config.similarity)
    return noise, t, m, uniform[:, 2] < config.null_fraction


def checkpoint_key(fingerprint: dict[str, Any]) -> dict[str, Any]:
    """What a checkpoint's state depends on: everything but how long the training will go on."""
    config = {name: value for name, value in fingerprint[NAME].items() if name != "images"}
    return {**fingerprint, NAME: config}


def cost(run: Run) -> Cost:
    """GPU hours at the config's throughput; disk: three checkpoints of weights, EMA and Adam's two, and the result."""
    config: TrainDiffusion = run.section(NAME)
    net = denoiser_cost(config.denoiser)
    weights = 4 * (net.parameters + net.adapter_parameters)
    rate = config.images_per_second
    return Cost(gpu_hours=config.images / rate / 3600 if rate else None, disk_bytes=(3 * 4 + 1) * weights)


STAGE = Stage(
    name=NAME,
    title="the denoiser, through DeepSpeed",
    config=TrainDiffusion,
    needs=lambda run: ("shard", *embedder_needs(run), "embed"),
    files=files,
    plan=plan,
    run_rank=run_rank,
    distributed=True,
    expected_images=lambda run: run.section(NAME).images,
    cost=cost,
)
