"""The training loop of a recognition net."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from cemiface.errors import ModelError
from cemiface.pixels import to_unit_range
from cemiface.recognition.augment import DRAWS, augment
from cemiface.recognition.class_head import ClassHead, TrainedHead, check_labels
from cemiface.recognition.nets import build_recognition, resize
from cemiface.recognition.sync_norm import synchronized
from jobs.frame.rank import Rank
from jobs.frame.seeds import derive
from jobs.training.engine import start_engine
from jobs.training.metrics import Metrics
from jobs.training.recipe import Recipe
from jobs.training.state import TrainingState
from jobs.training.watch import Watch, crossed
from jobs.training.world import join, join_alone
from shards.tars.loader import batches
from shards.tars.shard_set import ShardSet
from shards.tars.subset import Subset
from slurm.checkpoints import Checkpoints


@dataclass(frozen=True, kw_only=True)
class Place:
    """Where one training keeps its checkpoints and metrics; `key` is what its state depends on."""

    checkpoints: Path
    metrics: Path
    key: object


@dataclass(frozen=True, kw_only=True)
class Trained:
    """A finished training, the same on every rank, but that only rank 0 has the `centers` (C, E) of all classes."""

    net: nn.Module
    centers: torch.Tensor | None
    images: int
    resumed_after: int
    earlier_seconds: float
    world_rank: int
    world_size: int


def train(recipe: Recipe, faces: ShardSet | Subset, *, seed: int, rank: Rank, place: Place) -> Trained:
    """Train a net on the faces from its newest checkpoint to the last image; `seed` names the weights and the order.

    Raises:
        ModelError: fewer images than a batch, a batch the ranks cannot share, or a loss that is no number.
        Stopped: the rank was asked to leave; the work is saved.
    """
    world = join(rank) if rank.stage.distributed else join_alone(rank)
    classes, labels = len(faces.classes), torch.from_numpy(faces.labels)
    check_labels(labels, classes=classes)
    steps_per_epoch = len(faces) // recipe.batch
    if steps_per_epoch == 0:
        raise ModelError(
            f"{rank.stage.name}: batch: got {recipe.batch} for {len(faces)} images; allowed: at most these"
        )
    total = recipe.epochs * steps_per_epoch * recipe.batch

    # The backbone is whole on every rank and the engine's; the class head is split over the ranks and steps itself.
    torch.manual_seed(derive(seed, "weights"))
    net = build_recognition(recipe.recognition).to(world.device)
    if recipe.sync_norm and world.size > 1:
        net = synchronized(net, device=world.device)
    optimizer = torch.optim.SGD(
        net.parameters(), lr=recipe.learning_rate, momentum=recipe.momentum, weight_decay=recipe.weight_decay
    )
    engine = start_engine(
        net, optimizer=optimizer, batch=recipe.batch, gradient_clipping=recipe.gradient_clipping, world=world
    )
    # After the engine, whose first broadcast takes contiguous weights only.
    net.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    centers = ClassHead(
        classes,
        recipe.recognition.embedding,
        recipe.margin,
        seed=derive(seed, "class centers"),
        rank=world.rank,
        size=world.size,
    )
    head = TrainedHead(
        centers.to(world.device),
        learning_rate=recipe.learning_rate,
        momentum=recipe.momentum,
        weight_decay=recipe.weight_decay,
    )

    # State: the newest whole checkpoint of this very training.
    checkpoints = Checkpoints(place.checkpoints, key=place.key)
    state = TrainingState(checkpoints, modules={"net": net}, optimizer=optimizer, world=world, split=head)
    images = resumed_after = state.restore()
    metrics = Metrics(place.metrics, images=images) if world.rank == 0 else None
    watch = Watch(rank, world, total=total)

    order = derive(seed, "order")
    stream = batches(
        faces,
        batch=recipe.batch,
        seed=order,
        start=images,
        rank=world.rank,
        world_size=world.size,
        flip=recipe.flip,
        threads=max(2, torch.get_num_threads()),
    )
    engine.train()
    centers.train()
    while images < total:
        watch.between_steps(state, images=images, batch=recipe.batch, every=recipe.checkpoint_images)

        # A batch, augmented by numbers drawn per image from (seed, position).
        batch = next(stream)
        x = to_unit_range(batch.images, device=world.device)
        share = recipe.batch // world.size
        first = batch.position + world.rank * share
        x = augment(x, draw(range(first, first + share), seed=order).to(world.device), config=recipe.augment)
        if x.shape[-1] != recipe.recognition.image_size:
            x = resize(x, size=recipe.recognition.image_size)
        y = labels[torch.from_numpy(batch.indices)].to(world.device)

        # One step of the margin softmax; the loss is that of all ranks' images over all ranks' classes.
        with world.autocast():
            embeddings = engine(x.contiguous(memory_format=torch.channels_last))
        found = centers(embeddings, y, step=images)
        engine.backward(found.loss)
        learning_rate = recipe.learning_rate_of(images // (steps_per_epoch * recipe.batch))
        for group in optimizer.param_groups:
            group["lr"] = learning_rate
        engine.step()
        head.step(learning_rate=learning_rate)
        images += recipe.batch

        value = watch.loss(found.loss, images=images)
        if metrics and crossed(images, recipe.batch, every=recipe.log_images):
            # The margin lowers the true class's logit: this is a lower bound of the training accuracy.
            hits = found.hits.item()
            metrics.write({"images": images, "loss": value, "accuracy_with_margin": hits, "lr": learning_rate})

    stream.close()
    state.save(images)
    return Trained(
        net=net,
        centers=head.gathered().get("weight"),
        images=images,
        resumed_after=resumed_after,
        earlier_seconds=state.earlier_seconds,
        world_rank=world.rank,
        world_size=world.size,
    )


def draw(positions: range, *, seed: int) -> torch.Tensor:
    """The augmentation's uniform numbers (N, DRAWS) of the images at these positions, from (seed, position) alone."""
    generators = [torch.Generator().manual_seed(derive(seed, "augmentation", position)) for position in positions]
    return torch.stack([torch.rand(DRAWS, generator=generator) for generator in generators])
