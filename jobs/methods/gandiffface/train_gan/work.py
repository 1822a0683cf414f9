"""The training loop of the style-based GAN: a step of the critic, then a step of the generator."""

from __future__ import annotations

import time
from collections.abc import Mapping

import torch
from torch import Tensor

from cemiface.diffusion.ema import Ema
from cemiface.gandiff.gan.generator import critic_bytes, generator_bytes, load_initial_gan
from cemiface.gandiff.gan.losses import critic_losses, generator_loss
from cemiface.gandiff.gan.nets import Critic, Generator
from cemiface.pixels import to_unit_range
from jobs.frame.products import REAL
from jobs.frame.rank import Rank, Work
from jobs.frame.run import Run
from jobs.frame.seeds import derive
from jobs.methods.gandiffface.lineage import lineage_of_gan
from jobs.methods.gandiffface.train_gan.draws import Draws, gradient_norm
from jobs.methods.gandiffface.train_gan.plan import CRITIC, GENERATOR, NAME, TrainGan, initial_weights
from jobs.methods.gandiffface.train_gan.samples import Samples
from jobs.stages.train_recognition.plan import TrainingUnit
from jobs.training.device import tune
from jobs.training.engine import start_engine
from jobs.training.metrics import Metrics
from jobs.training.state import TrainingState, checkpoint_key
from jobs.training.step_monitor import StepMonitor, crossed
from jobs.training.world import join
from shards.privacy.lineage import lineage_text
from shards.tars.loader import batches
from shards.tars.shard_set import ShardSet
from slurm.checkpoints import Checkpoints

NO_CLIPPING = 0.0  # Adam and the gradient penalties bound the steps


def run_rank(run: Run, rank: Rank) -> None:
    """Train the GAN, unless it is done."""
    for work in rank.remaining(TrainingUnit):
        train(run, rank, work)


def train(run: Run, rank: Rank, work: Work[TrainingUnit]) -> None:
    """Train the GAN, or resume the training from its newest checkpoint; publishes the generator's EMA weights.

    Raises:
        ModelError: a batch that does not divide by the ranks, or a loss that is not finite.
        Stopped: the rank was asked to stop; a checkpoint is saved.
    """
    config, seed = run.section(TrainGan), run.seed
    world = join(rank)
    device = world.device

    # Nets: generator, critic, and the generator's moving average, which halves the share of old weights in ema_images.
    torch.manual_seed(derive(seed, "gan weights"))
    generator, critic = Generator(config.gan).to(device), Critic(config.gan).to(device)
    if given := initial_weights(run):
        load_initial_gan(generator, critic, weights=given[0], of_critic=given[1])
    ema = Ema(generator, decay=0.5 ** (config.batch / config.ema_images))
    optimizers = [
        torch.optim.Adam(net.parameters(), lr=config.learning_rate, betas=(0.0, 0.99), fused=True)
        for net in (generator, critic)
    ]
    generator_engine, critic_engine = (
        start_engine(
            net,
            optimizer=optimizer,
            batch=config.batch,
            micro_batch=config.micro_batch,
            gradient_clipping=NO_CLIPPING,
            world=world,
        )
        for net, optimizer in zip((generator, critic), optimizers, strict=True)
    )
    for net in (generator, critic, ema.module):  # after the engines' first broadcast, which takes contiguous weights
        tune(net, channels_last=config.channels_last, compiled=False)

    # State: resume from the newest whole checkpoint. A longer training may continue a shorter one, never the reverse.
    checkpoints = Checkpoints(rank.folder.checkpoints, key=checkpoint_key(rank.fingerprint(work.unit), stage=NAME))
    modules = {"generator": generator, "critic": critic, "ema": ema.module}
    state = TrainingState(
        checkpoints, modules=modules, optimizer=optimizers[0], second_optimizer=optimizers[1], world=world
    )
    total = -(-config.images // config.batch) * config.batch  # whole batches
    images = resumed_after = state.restore(at_most=total)
    metrics = Metrics(rank.folder.metrics, images=images) if world.rank == 0 else None
    samples = Samples(run, rank, world=world, images=images)
    monitor = StepMonitor(rank, world, total=total)

    # Order: the batch at each position follows from (seed, position), so the loader has no state to save.
    shards = ShardSet(run.ledger.outputs("shard", prefix=REAL, suffix=".tar"))
    order = derive(seed, "gan order")
    stream = batches(shards, batch=config.batch, seed=order, start=images, rank=world.rank, world_size=world.size)
    draws = Draws(config, seed=seed, device=device)
    share = config.batch // world.size
    micro = config.micro_batch or share
    clock, clocked = time.monotonic(), images
    while images < total:
        # Before a stop is looked at: a resumed training first makes what was due when it was interrupted.
        if samples.take(ema.module, images=images, total=total):
            clock, clocked = time.monotonic(), images
        monitor.between_steps(state, images=images, batch=config.batch, every=config.checkpoint_images)

        # This rank's share of real images, in pieces; the position of an image determines its random numbers.
        batch = next(stream)
        real = to_unit_range(batch.images, device=device)
        first = batch.position + world.rank * share
        pieces = [(slice(at, at + micro), range(first + at, first + at + micro)) for at in range(0, share, micro)]

        # Learning rate with linear warm-up.
        learning_rate = config.learning_rate * min(1.0, (images + config.batch) / max(1, config.warmup_images))
        for group in (group for optimizer in optimizers for group in optimizer.param_groups):
            group["lr"] = learning_rate

        # Critic: each real image should score higher than a generated one. Every few steps R1 and R2, in float32.
        penalized = images // config.batch % config.loss.penalty_every == 0
        terms: dict[str, Tensor] = {}
        for piece, positions in pieces:
            with world.autocast("fp32" if penalized else config.precision):
                with torch.no_grad():
                    fake = generator(draws.latents(positions, purpose="critic"))
                seen = draws.augmented(real[piece], positions, purpose="critic, real")
                fake = draws.augmented(fake, positions, purpose="critic, generated")
                losses = critic_losses(critic, real=seen, fake=fake, config=config.loss, penalized=penalized)
            critic_engine.backward(losses["critic_loss"])
            critic_norm = gradient_norm(critic)  # after the last piece, averaged over the ranks
            critic_engine.step()  # updates the weights after the last piece, only counts before
            add_share(terms, losses, share=micro / share)

        # Generator: each of other generated images should score higher than a real one.
        critic.requires_grad_(False)
        for piece, positions in pieces:
            with world.autocast(config.precision):
                fake = generator(draws.latents(positions, purpose="generator"))
                fake = draws.augmented(fake, positions, purpose="generator, generated")
                seen = draws.augmented(real[piece], positions, purpose="generator, real")
                loss = generator_loss(critic, real=seen, fake=fake)
            generator_engine.backward(loss)
            generator_norm = gradient_norm(generator)
            generator_engine.step()
            add_share(terms, {"generator_loss": loss}, share=micro / share)
        critic.requires_grad_(True)
        ema.update(generator, step=images // config.batch)
        images += config.batch

        # Metrics of a step with penalties.
        monitor.mean_loss(terms["critic_loss"] + terms["generator_loss"], images=images)
        if penalized and crossed(images, config.batch * config.loss.penalty_every, every=config.log_images):
            means = (world.total(torch.stack(list(terms.values()))) / world.size).tolist()
            line = dict(zip(terms, means, strict=True))
            line |= {"margin": line["real_score"] - line["fake_score"], "learning_rate": learning_rate}
            line |= {"critic_gradient": critic_norm, "generator_gradient": generator_norm}
            line["images_per_second"] = (images - clocked) / (time.monotonic() - clock)
            if metrics:
                metrics.write({"images": images, **line})
            clock, clocked = time.monotonic(), images

    # Result: the EMA weights, with their config in the metadata.
    stream.close()
    state.save(images)
    samples.take(ema.module, images=images, total=total)
    if world.rank == 0:
        assert isinstance(ema.module, Generator)
        ema.module.set_w_mean()
        lineage = lineage_text(lineage_of_gan(run))
        work.publish(GENERATOR, generator_bytes(ema.module, lineage=lineage))
        work.publish(CRITIC, critic_bytes(critic, lineage=lineage))
        figures = {**samples.last_distance(), "world_size": world.size, "resumed_after_images": resumed_after}
        seconds = state.earlier_seconds
        work.done(images=images, counts={"trained": images}, earlier_seconds=seconds, figures=figures)


def add_share(terms: dict[str, Tensor], found: Mapping[str, Tensor], *, share: float) -> None:
    """Add the terms of a piece of the batch, in proportion to its size."""
    for name, value in found.items():
        terms[name] = terms.get(name, 0.0) + value.detach() * share
