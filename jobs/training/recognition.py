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
from jobs.training.step_monitor import StepMonitor, crossed
from jobs.training.world import join, join_alone
from shards.tars.loader import batches
from shards.tars.subset import LabeledImages
from slurm.checkpoints import Checkpoints


@dataclass(frozen=True, kw_only=True)
class TrainingFiles:
    """Where a training keeps its checkpoints and metrics; `key` identifies the training that may resume from them."""

    checkpoints: Path
    metrics: Path
    key: object


@dataclass(frozen=True, kw_only=True)
class TrainingResult:
    """A finished training. It is the same on all ranks, except for `centers` and `world_rank`."""

    net: nn.Module
    centers: torch.Tensor | None  # (C, E), the rows of the class head; None on ranks other than 0
    images: int
    resumed_after: int
    earlier_seconds: float
    world_rank: int
    world_size: int


def train(recipe: Recipe, faces: LabeledImages, *, seed: int, rank: Rank, files: TrainingFiles) -> TrainingResult:
    """Train a recognition net on `faces`, or resume the training from its newest checkpoint.

    The first weights and the order of the images follow from `seed`.

    Raises:
        ModelError: one identity alone, fewer images than a batch, a batch that does not divide by the ranks, or a loss
            that is not finite.
        Stopped: the rank was asked to stop; a checkpoint is saved.
    """
    world = join(rank) if rank.stage.distributed else join_alone(rank)

    # Data: whole batches only, so an epoch may leave out the last few images of its order.
    classes, labels = len(faces.classes), torch.from_numpy(faces.labels)
    check_labels(labels, classes=classes)
    if classes < 2:
        raise ModelError(f"{rank.stage.name}: sets: got {classes} identity to train on; allowed: 2 or more")
    images_per_epoch = len(faces) // recipe.batch * recipe.batch
    if images_per_epoch == 0:
        raise ModelError(
            f"{rank.stage.name}: batch: got {recipe.batch} for {len(faces)} images; allowed: 1 to {len(faces)}"
        )
    total = recipe.epochs * images_per_epoch

    # Backbone: a whole copy on each rank, whose gradients the engine averages.
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
    # After the engine has started, as its first broadcast takes contiguous weights only.
    net.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    # Class head: the classes are split over the ranks, so it has an optimizer of its own.
    head = ClassHead(
        classes,
        recipe.recognition.embedding,
        recipe.margin,
        seed=derive(seed, "class centers"),
        rank=world.rank,
        size=world.size,
    )
    trained_head = TrainedHead(
        head.to(world.device),
        learning_rate=recipe.learning_rate,
        momentum=recipe.momentum,
        weight_decay=recipe.weight_decay,
    )

    # State: resume from the newest whole checkpoint of the same training.
    checkpoints = Checkpoints(files.checkpoints, key=files.key)
    state = TrainingState(checkpoints, modules={"net": net}, optimizer=optimizer, world=world, split=trained_head)
    images = resumed_after = state.restore()
    metrics = Metrics(files.metrics, images=images) if world.rank == 0 else None
    monitor = StepMonitor(rank, world, total=total)

    # Order: the batch at each position follows from (seed, position), so the loader has no state to save.
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
    share = recipe.batch // world.size
    engine.train()
    head.train()
    while images < total:
        monitor.between_steps(state, images=images, batch=recipe.batch, every=recipe.checkpoint_images)

        # This rank's share of a batch; the augmentation's numbers are drawn per image from (seed, position).
        batch = next(stream)
        x = to_unit_range(batch.images, device=world.device)
        first = batch.position + world.rank * share
        x = augment(x, draw(range(first, first + share), seed=order).to(world.device), config=recipe.augment)
        if x.shape[-1] != recipe.recognition.image_size:
            x = resize(x, size=recipe.recognition.image_size)
        y = labels[torch.from_numpy(batch.indices)].to(world.device)

        # Margin softmax over all classes, averaged over the images of all ranks.
        with world.autocast():
            embeddings = engine(x.contiguous(memory_format=torch.channels_last))
        found = head(embeddings, y, step=images)
        engine.backward(found.loss)

        # One step of SGD, of the backbone and of the head.
        learning_rate = recipe.learning_rate_of(images // images_per_epoch)
        for group in optimizer.param_groups:
            group["lr"] = learning_rate
        engine.step()
        trained_head.step(learning_rate=learning_rate)
        images += recipe.batch

        # Metrics. The margin lowers the logit of the true class, so this accuracy is a lower bound.
        loss = monitor.mean_loss(found.loss, images=images)
        if metrics and crossed(images, recipe.batch, every=recipe.log_images):
            accuracy = found.hits.item()
            metrics.write({"images": images, "loss": loss, "accuracy_with_margin": accuracy, "lr": learning_rate})

    stream.close()
    state.save(images)
    return TrainingResult(
        net=net,
        centers=trained_head.gathered().get("weight"),
        images=images,
        resumed_after=resumed_after,
        earlier_seconds=state.earlier_seconds,
        world_rank=world.rank,
        world_size=world.size,
    )


def draw(positions: range, *, seed: int) -> torch.Tensor:
    """Uniform numbers (N, DRAWS) for `augment`; the row of an image follows from (seed, position) alone."""
    generators = [torch.Generator().manual_seed(derive(seed, "augmentation", position)) for position in positions]
    return torch.stack([torch.rand(DRAWS, generator=generator) for generator in generators])
