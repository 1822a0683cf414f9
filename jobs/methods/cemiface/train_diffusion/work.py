"""The training loop of the denoiser (Algorithm 1 of the paper)."""

from __future__ import annotations

import logging
from typing import Any

import torch

from cemiface.diffusion.ema import Ema
from cemiface.diffusion.schedule import Schedule
from cemiface.pixels import to_unit_range
from cemiface.semihard.denoiser import Denoiser, denoiser_bytes, start_from
from cemiface.semihard.losses import cemiface_loss, draw_similarity
from jobs.frame.products import MERGED, REAL
from jobs.frame.rank import Rank, Work
from jobs.frame.run import Run
from jobs.frame.seeds import derive
from jobs.methods.cemiface.train_diffusion.plan import DENOISER, NAME, TrainDiffusion
from jobs.methods.cemiface.train_diffusion.sample_grids import SampleGrids
from jobs.stages.shared.embedder import embedder_path
from jobs.stages.shared.embedding import load_embedder
from jobs.stages.train_recognition.plan import TrainingUnit
from jobs.training.device import tuned
from jobs.training.engine import start_engine
from jobs.training.metrics import Metrics
from jobs.training.state import TrainingState
from jobs.training.watch import Watch, crossed
from jobs.training.world import join
from shards.embeddings.embeddings import open_merged
from shards.tars.loader import batches
from shards.tars.shard_set import ShardSet
from slurm.checkpoints import Checkpoints
from slurm.files import sha256_of

TERMS = ("loss", "mse", "reconstruction", "similarity", "cosine")  # of equation 14, in the log

log = logging.getLogger(__name__)


def run_rank(run: Run, rank: Rank) -> None:
    for work in rank.remaining(TrainingUnit):
        train(run, rank, work)


def train(run: Run, rank: Rank, work: Work[TrainingUnit]) -> None:
    config = run.section(TrainDiffusion)
    world = join(rank)

    # Data: real faces, and E_id of each of them and of its mirror image, computed once by the embed stage.
    shards = ShardSet(run.ledger.outputs("shard", prefix=REAL, suffix=".tar"))
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
