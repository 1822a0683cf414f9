"""The training loop of the embedded base."""

from __future__ import annotations

import numpy as np
import torch

from cemiface.diffusion.ema import Ema
from cemiface.diffusion.schedule import Schedule
from cemiface.gandiff.slot_denoiser import SlotDenoiser, base_bytes, dropped, load_initial_base
from cemiface.gandiff.slots import Slot, measured_positions, mirrored
from cemiface.pixels import to_unit_range
from jobs.frame.products import REAL
from jobs.frame.rank import Rank, Work
from jobs.frame.run import Run
from jobs.frame.seeds import derive
from jobs.methods.gandiffface.attributes.files import FaceAttributes, read_attributes
from jobs.methods.gandiffface.lineage import lineage_of_base
from jobs.methods.gandiffface.train_base.plan import BASE, NAME, TrainBase
from jobs.methods.gandiffface.train_base.sheets import SlotSheets
from jobs.stages.train_recognition.plan import TrainingUnit
from jobs.training.device import tune
from jobs.training.draws import image_draws, timesteps
from jobs.training.engine import start_engine
from jobs.training.metrics import Metrics
from jobs.training.state import TrainingState, checkpoint_key
from jobs.training.step_monitor import StepMonitor, crossed
from jobs.training.world import join
from shards.privacy.lineage import lineage_text
from shards.tars.loader import batches
from shards.tars.shard_set import ShardSet
from slurm.checkpoints import Checkpoints


def run_rank(run: Run, rank: Rank) -> None:
    """Train the base, unless it is done."""
    for work in rank.remaining(TrainingUnit):
        train(run, rank, work)


def train(run: Run, rank: Rank, work: Work[TrainingUnit]) -> None:
    """Train the base, or resume the training from its newest checkpoint; publishes the EMA weights.

    Raises:
        ModelError: a batch that does not divide by the ranks, initial weights of another base, or a loss that is not
            finite.
        Stopped: the rank was asked to stop; a checkpoint is saved.
    """
    config = run.section(TrainBase)
    world = join(rank)

    # Data: real faces, and the slots of each and of its mirror image.
    shards = ShardSet(run.ledger.outputs("shard", prefix=REAL, suffix=".tar"))
    attributes = read_attributes(run)
    assert attributes.keys == shards.keys
    slots_of = torch.from_numpy(slot_table(config.denoiser.slots, attributes, min_face=config.min_face))

    # Nets: the denoiser and its moving average.
    torch.manual_seed(derive(run.seed, "base weights"))
    denoiser = SlotDenoiser(config.denoiser).to(world.device)
    if config.initial_weights:
        load_initial_base(denoiser, run.path(config.initial_weights), diffusion=config.diffusion)
    ema = Ema(denoiser, decay=config.ema_decay)
    optimizer = torch.optim.AdamW(
        denoiser.parameters(), lr=config.learning_rate, weight_decay=config.weight_decay, fused=True
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
    assert isinstance(ema.module, SlotDenoiser)
    schedule = Schedule(config.diffusion, device=world.device)

    # State: resume from the newest whole checkpoint. A longer training may continue a shorter one, never the reverse.
    checkpoints = Checkpoints(rank.folder.checkpoints, key=checkpoint_key(rank.fingerprint(work.unit), stage=NAME))
    modules = {"denoiser": denoiser, "ema": ema.module}
    state = TrainingState(checkpoints, modules=modules, optimizer=optimizer, world=world)
    total = -(-config.images // config.batch) * config.batch  # whole batches
    images = resumed_after = state.restore(at_most=total)
    metrics = Metrics(rank.folder.metrics, images=images) if world.rank == 0 else None
    sheets = SlotSheets(run, schedule=schedule, images=images) if world.rank == 0 else None
    monitor = StepMonitor(rank, world, total=total)

    # Order: the batch at each position follows from (seed, position), so the loader has no state to save.
    order = derive(run.seed, "base order")
    stream = batches(
        shards, batch=config.batch, seed=order, start=images, rank=world.rank, world_size=world.size, flip=True
    )
    share = config.batch // world.size
    micro = config.micro_batch or share
    while images < total:
        monitor.between_steps(state, images=images, batch=config.batch, every=config.checkpoint_images)

        # This rank's share of images with their slots; noise, t and what is dropped follow from (seed, position).
        batch = next(stream)
        x0 = to_unit_range(batch.images, device=world.device)
        stated = slots_of[torch.from_numpy(batch.flips.astype(np.int64)), torch.from_numpy(batch.indices)]
        first = batch.position + world.rank * share
        uniform, noise = image_draws(
            range(first, first + share), shape=x0.shape[1:], uniforms=2 + stated.shape[1], purpose="base", seed=run.seed
        )
        noise, t = noise.to(world.device), timesteps(uniform[:, 0], count=schedule.timesteps).to(world.device)
        slots = dropped(
            stated.to(world.device),
            nothing=denoiser.condition.nothing_stated(share),
            uniform=uniform[:, 1:].to(world.device),
            each=config.slot_dropout,
            all_of_them=config.unconditional,
        )
        x_t = schedule.add_noise(x0, noise, t)
        target = schedule.target(x_t, noise, t)

        # Learning rate with linear warm-up.
        learning_rate = config.learning_rate * min(1.0, (images + config.batch) / max(1, config.warmup_images))
        for group in optimizer.param_groups:
            group["lr"] = learning_rate

        # Mean squared error, one micro batch at a time, and one step of AdamW after the last.
        mean = torch.zeros((), device=world.device)
        for start in range(0, share, micro):
            piece = slice(start, start + micro)
            with world.autocast(config.precision):
                output = engine(x_t[piece], t[piece], slots[piece])
            error = (output.float() - target[piece]).square().mean()
            engine.backward(error)
            engine.step()  # updates the weights after the last micro batch, only counts before
            mean += error.detach() * (micro / share)
        ema.update(denoiser, step=images // config.batch)
        images += config.batch

        # Metrics and sheets.
        loss = monitor.mean_loss(mean, images=images)
        if metrics and crossed(images, config.batch, every=config.log_images):
            metrics.write({"images": images, "loss": loss})
        if sheets and (images == total or crossed(images, config.batch, every=config.sample_images)):
            sheets.write(ema.module, images=images)

    # Result: the EMA weights, with their config in the metadata.
    stream.close()
    state.save(images)
    if world.rank == 0:
        lineage = lineage_text(lineage_of_base(run))
        work.publish(BASE, base_bytes(ema.module, diffusion=config.diffusion, lineage=lineage))
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


def slot_table(slots: tuple[Slot, ...], attributes: FaceAttributes, *, min_face: float) -> np.ndarray:
    """Positions (2, N, L) of the values of each face and of its mirror image.

    Where the face is hardly there, nothing that was measured is believed.
    """
    both = [measured_positions(slots, columns) for columns in (attributes.columns, mirrored(attributes.columns))]
    table = np.stack(both)
    if "face" in attributes.columns:
        unseen = attributes.columns["face"] < min_face
        table[:, unseen] = [slot.not_stated for slot in slots]
    return table
