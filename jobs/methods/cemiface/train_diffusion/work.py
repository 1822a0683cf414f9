"""The training loop of the denoiser (Algorithm 1 of the paper)."""

from __future__ import annotations

import logging

import torch

from cemiface.diffusion.ema import Ema
from cemiface.diffusion.schedule import Schedule
from cemiface.pixels import to_unit_range
from cemiface.semihard.denoiser import Denoiser, denoiser_bytes, load_initial_weights
from cemiface.semihard.losses import cemiface_loss, draw_m
from jobs.frame.products import MERGED, REAL
from jobs.frame.rank import Rank, Work
from jobs.frame.run import Run
from jobs.frame.seeds import derive
from jobs.methods.cemiface.lineage import lineage_of_nets
from jobs.methods.cemiface.train_diffusion.plan import DENOISER, NAME, TrainDiffusion
from jobs.methods.cemiface.train_diffusion.sample_grids import SampleGrids
from jobs.stages.shared.embedder import embedder_path
from jobs.stages.shared.embedding import load_embedder
from jobs.stages.train_recognition.plan import TrainingUnit
from jobs.training.device import tune
from jobs.training.draws import image_draws, timesteps
from jobs.training.engine import start_engine
from jobs.training.metrics import Metrics
from jobs.training.state import TrainingState, checkpoint_key
from jobs.training.step_monitor import StepMonitor, crossed
from jobs.training.world import join
from shards.embeddings.embeddings import open_merged
from shards.privacy.lineage import lineage_text
from shards.tars.loader import batches
from shards.tars.shard_set import ShardSet
from slurm.checkpoints import Checkpoints
from slurm.files import sha256_of

TERMS = ("loss", "mse", "reconstruction", "similarity", "cosine")  # of equation 14, as keys of metrics.jsonl

log = logging.getLogger(__name__)


def run_rank(run: Run, rank: Rank) -> None:
    """Train the denoiser, unless it is done."""
    for work in rank.remaining(TrainingUnit):
        train(run, rank, work)


def train(run: Run, rank: Rank, work: Work[TrainingUnit]) -> None:
    """Train the denoiser, or resume the training from its newest checkpoint; publishes the EMA weights.

    Raises:
        ModelError: a batch that does not divide by the ranks, initial weights of another net or another E_id, or a
            loss that is not finite.
        Stopped: the rank was asked to stop; a checkpoint is saved.
    """
    config = run.section(TrainDiffusion)
    world = join(rank)

    # Data: real faces, with the embeddings under E_id of each image and its mirror image from the stage embed.
    shards = ShardSet(run.ledger.outputs("shard", prefix=REAL, suffix=".tar"))
    merged = open_merged(run.stage_folder("embed").output(MERGED))
    assert merged.keys == shards.keys

    # Nets: the frozen E_id, the denoiser and its moving average. E_id sets the width of the identity condition.
    embedder = load_embedder(run, device=world.device)
    torch.manual_seed(derive(run.seed, "denoiser weights"))
    shape = config.denoiser.model_copy(update={"embedding": embedder.embedding})
    denoiser = Denoiser(shape).to(world.device)
    embedder_sha256 = sha256_of(embedder_path(run))
    if config.initial_weights:
        expected = None if config.other_embedder else embedder_sha256
        load_initial_weights(denoiser, run.path(config.initial_weights), diffusion=config.diffusion, embedder=expected)
    ema = Ema(denoiser, decay=config.ema_decay)
    optimizer = torch.optim.AdamW(
        denoiser.parameters(),
        lr=config.learning_rate,
        weight_decay=config.weight_decay,
        fused=True,  # one pass over memory; takes a third of the time, on CPUs as well
    )
    engine = start_engine(
        denoiser,
        optimizer=optimizer,
        batch=config.batch,
        micro_batch=config.micro_batch,
        gradient_clipping=config.gradient_clipping,
        world=world,
    )
    # After the engine has started, as its first broadcast takes contiguous weights only.
    tune(denoiser, channels_last=config.channels_last, compiled=config.compile)
    tune(ema.module, channels_last=config.channels_last, compiled=False)
    schedule = Schedule(config.diffusion, device=world.device)

    # State: resume from the newest whole checkpoint. A longer training may continue a shorter one, never the reverse.
    checkpoints = Checkpoints(rank.folder.checkpoints, key=checkpoint_key(rank.fingerprint(work.unit), stage=NAME))
    modules = {"denoiser": denoiser, "ema": ema.module}
    state = TrainingState(checkpoints, modules=modules, optimizer=optimizer, world=world)
    total = -(-config.images // config.batch) * config.batch  # whole batches
    images = resumed_after = state.restore(at_most=total)
    metrics = Metrics(rank.folder.metrics, images=images) if world.rank == 0 else None
    grids = SampleGrids(run, shards=shards, identity=merged.features, schedule=schedule, images=images)
    monitor = StepMonitor(rank, world, total=total)

    # Order: the batch at each position follows from (seed, position), so the loader has no state to save.
    order = derive(run.seed, "diffusion order")
    stream = batches(
        shards, batch=config.batch, seed=order, start=images, rank=world.rank, world_size=world.size, flip=True
    )
    share = config.batch // world.size
    micro = config.micro_batch or share
    while images < total:
        monitor.between_steps(state, images=images, batch=config.batch, every=config.checkpoint_images)

        # Algorithm 1: this rank's share of images; noise, t and m are drawn per image from (seed, position).
        batch = next(stream)
        x0 = to_unit_range(batch.images, device=world.device)
        identity = torch.from_numpy(merged.of(batch.indices, flips=batch.flips)).to(world.device)
        first = batch.position + world.rank * share
        draws = draw(range(first, first + share), shape=x0.shape[1:], config=config, seed=run.seed)
        noise, t, m, null = (tensor.to(world.device) for tensor in draws)
        x_t = schedule.add_noise(x0, noise, t)  # equation 4

        # Learning rate with linear warm-up.
        learning_rate = config.learning_rate * min(1.0, (images + config.batch) / max(1, config.warmup_images))
        for group in optimizer.param_groups:
            group["lr"] = learning_rate

        # The loss of equation 14, one micro batch at a time, and one step of AdamW after the last.
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
            engine.step()  # updates the weights after the last micro batch, only counts before
            terms += losses.terms() * (micro / share)
        ema.update(denoiser, step=images // config.batch)
        images += config.batch

        # Metrics and sample grids.
        loss = monitor.mean_loss(terms[0], images=images)
        if crossed(images, config.batch, every=config.log_images):
            means = (world.total(terms) / world.size).tolist()
            if metrics:
                metrics.write({"images": images, **dict(zip(TERMS, means, strict=True))})
        if world.rank == 0 and (images == total or crossed(images, config.batch, every=config.sample_images)):
            grids.write(ema.module, embedder=embedder, images=images)

    # Result: the EMA weights, with their config in the metadata.
    stream.close()
    state.save(images)
    if world.rank == 0:
        assert isinstance(ema.module, Denoiser)
        lineage = lineage_text(lineage_of_nets(run))
        data = denoiser_bytes(ema.module, diffusion=config.diffusion, embedder=embedder_sha256, lineage=lineage)
        work.publish(DENOISER, data)
        net, adapter = denoiser.parameter_counts()
        work.done(
            images=images,
            counts={"trained": images},
            earlier_seconds=state.earlier_seconds,
            figures={
                "loss": loss if images > resumed_after else None,
                "parameters": net,
                "adapter_parameters": adapter,
                "world_size": world.size,
                "resumed_after_images": resumed_after,
            },
        )


def draw(
    positions: range, *, shape: torch.Size, config: TrainDiffusion, seed: int
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """Noise (N, 3, S, S), t, m and null (N,) of the images at these positions, each from (seed, position) alone.

    `null` marks the images that are trained without a condition.
    """
    uniform, noise = image_draws(positions, shape=shape, uniforms=3, purpose="diffusion draw", seed=seed)
    t = timesteps(uniform[:, 0], count=config.diffusion.timesteps)
    m = draw_m(uniform[:, 1], grid=config.similarity)
    return noise, t, m, uniform[:, 2] < config.null_fraction
