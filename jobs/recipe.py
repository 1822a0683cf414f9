"""The recipe of a recognition net, and the loop that follows it: the released training log of the paper, in full."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import Field, model_validator

from cemiface.config import AugmentConfig, MarginConfig, RecognitionConfig
from jobs.seeds import derive
from jobs.stage import OPERATIONAL, StageConfig

if TYPE_CHECKING:
    import torch
    from torch import nn

    from jobs.rank import Rank
    from shards.shard_set import ShardSet
    from shards.subset import Subset


class Recipe(StageConfig):
    """The defaults are those of the released log, not of the paper's text, which drops after 26 and 34 epochs."""

    recognition: RecognitionConfig = RecognitionConfig()
    margin: MarginConfig = MarginConfig()
    augment: AugmentConfig = AugmentConfig()
    flip: bool = True  # every second image, mirrored
    epochs: int = Field(40, ge=1)
    batch: int = Field(512, ge=2)  # global
    learning_rate: float = Field(0.1, gt=0)
    momentum: float = Field(0.9, ge=0, lt=1)
    weight_decay: float = Field(5e-4, ge=0)
    drop_after_epochs: tuple[int, ...] = (24, 30, 36)  # learning rate x 0.1 after each
    gradient_clipping: float = Field(5.0, gt=0)  # of the backbone's norm
    sync_norm: bool = True  # batch norm over the global batch, as on the one GPU of the log, whatever the ranks
    checkpoint_images: int = Field(500_000, ge=1, **OPERATIONAL)
    log_images: int = Field(10_000, ge=1, **OPERATIONAL)

    @model_validator(mode="after")
    def _check(self) -> Recipe:
        if list(self.drop_after_epochs) != sorted(set(self.drop_after_epochs)):
            raise ValueError(f"drop_after_epochs: got {self.drop_after_epochs}; allowed: rising epochs")
        return self

    def learning_rate_of(self, epoch: int) -> float:
        """The learning rate of an epoch, counted from 0."""
        return self.learning_rate * 0.1 ** sum(epoch >= after for after in self.drop_after_epochs)


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
    import torch

    from cemiface.augment import augment
    from cemiface.class_head import ClassHead, TrainedHead, check_labels
    from cemiface.errors import ModelError
    from cemiface.recognition import build_recognition, resize
    from cemiface.sync_norm import synchronized
    from jobs.embedder import to_unit_range
    from jobs.training import Metrics, Watch, crossed, join, join_alone, start_engine
    from jobs.training_state import TrainingState
    from shards.loader import batches
    from slurm.checkpoints import Checkpoints

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
    import torch

    from cemiface.augment import DRAWS

    generators = [torch.Generator().manual_seed(derive(seed, "augmentation", position)) for position in positions]
    return torch.stack([torch.rand(DRAWS, generator=generator) for generator in generators])
