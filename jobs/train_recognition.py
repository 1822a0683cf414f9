"""Train-recognition: a face recognition net with a margin head, on real or synthetic tars or both, through DeepSpeed.

The same code trains E_id on the real faces where the user brings no weights (the stage train-embedder).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from pydantic import Field, StringConstraints, model_validator

from cemiface.config import AugmentConfig, MarginConfig, RecognitionConfig
from jobs.embedder import TRAINED_HERE, WEIGHTS
from jobs.registry import SET_NAME, SETS, registered, tars_of
from jobs.seeds import derive
from jobs.shard_faces import REAL
from jobs.stage import OPERATIONAL, Run, Stage, StageConfig, Unit
from shards.manifest import NAME as MANIFEST
from slurm.files import sha256_of

if TYPE_CHECKING:
    from pathlib import Path

    import torch

    from jobs.rank import Rank, Work

NAME = "train-recognition"
MADE_HERE = {REAL: "shard", "synthetic": "generate"}  # sets of this run, and the stages that make them
# "real", "synthetic", or the name of an imported set
Sets = tuple[Annotated[str, StringConstraints(pattern=rf"^{SET_NAME.pattern}$")], ...]


class TrainRecognition(StageConfig):
    sets: Sets = Field(("synthetic",), min_length=1)  # what it is trained on
    recognition: RecognitionConfig = RecognitionConfig()
    margin: MarginConfig = MarginConfig()
    augment: AugmentConfig = AugmentConfig()
    epochs: int = Field(40, ge=1)
    batch: int = Field(512, ge=2)  # global
    learning_rate: float = Field(0.1, gt=0)
    momentum: float = Field(0.9, ge=0, lt=1)
    weight_decay: float = Field(5e-4, ge=0)
    drop_after_epochs: tuple[int, ...] = (24, 30, 36)  # learning rate x 0.1 after each, as in the released log
    gradient_clipping: float = Field(5.0, gt=0)
    checkpoint_images: int = Field(500_000, ge=1, **OPERATIONAL)
    log_images: int = Field(10_000, ge=1, **OPERATIONAL)

    @model_validator(mode="after")
    def _check(self) -> TrainRecognition:
        if list(self.drop_after_epochs) != sorted(set(self.drop_after_epochs)):
            raise ValueError(f"drop_after_epochs: got {self.drop_after_epochs}; allowed: rising epochs")
        return self


class TrainEmbedder(TrainRecognition):
    sets: Sets = Field(("real",), min_length=1, max_length=1)


def tars(run: Run, *, kind: str) -> list[Path]:
    """The tars of the real training faces, of the synthetic ones, or of an imported set."""
    if kind not in MADE_HERE:
        return tars_of(kind, sets=run.path(SETS))
    return run.outputs("shard" if kind == REAL else "generate", prefix=f"{kind}-", suffix=".tar")


def needs(run: Run, *, name: str) -> tuple[str, ...]:
    return tuple(MADE_HERE[kind] for kind in run.section(name).sets if kind in MADE_HERE)


def imported(run: Run, *, name: str) -> dict[str, str]:
    """The imported sets of a stage, by the hashes of their manifests, which hold those of all files."""
    kinds = [kind for kind in run.section(name).sets if kind not in MADE_HERE]
    return {f"sets.{kind}": sha256_of(registered(kind, sets=run.path(SETS)) / MANIFEST) for kind in kinds}


def plan(run: Run) -> list[Unit]:
    return [{"weights": WEIGHTS}]


def run_rank(run: Run, rank: Rank) -> None:
    for work in rank.remaining():
        train(run, rank, work)


def train(run: Run, rank: Rank, work: Work) -> None:
    import torch
    import torch.nn.functional as F

    from cemiface.augment import augment
    from cemiface.margins import MarginClassifier, MarginHead
    from cemiface.recognition import build_recognition, recognition_bytes, resize
    from jobs.embedder import to_unit_range
    from jobs.train_diffusion import crossed
    from jobs.training import Metrics, TrainingState, Watch, join, start_engine
    from shards.loader import batches
    from shards.shard_set import ShardSet
    from slurm.checkpoints import Checkpoints

    config: TrainRecognition = run.section(rank.stage.name)
    world = join(rank)

    # Data: labels are made contiguous over everything that is trained on.
    shards = ShardSet([path for kind in config.sets for path in tars(run, kind=kind)])
    labels = torch.from_numpy(shards.labels)
    classes = len(shards.classes)
    steps_per_epoch = max(1, len(shards) // config.batch)
    total = config.epochs * steps_per_epoch * config.batch

    # Nets: backbone and margin head are one module, so that the engine steps both.
    torch.manual_seed(derive(run.seed, f"{rank.stage.name} weights"))
    backbone = build_recognition(config.recognition)
    head = MarginHead(classes, config.recognition.embedding, config.margin)
    module = MarginClassifier(backbone, head).to(world.device)
    optimizer = torch.optim.SGD(
        module.parameters(),
        lr=config.learning_rate,
        momentum=config.momentum,
        weight_decay=config.weight_decay,
    )
    engine = start_engine(
        module, optimizer=optimizer, batch=config.batch, gradient_clipping=config.gradient_clipping, world=world
    )

    # State: the newest whole checkpoint of this very training.
    checkpoints = Checkpoints(rank.folder.checkpoints, key=rank.fingerprint(work.unit))
    state = TrainingState(checkpoints, modules={"net": module}, optimizer=optimizer, world=world)
    images = state.restore()
    metrics = Metrics(rank.folder.metrics, images=images) if world.rank == 0 else None
    watch = Watch(rank, world, total=total)
    start_images = images

    order = derive(run.seed, f"{rank.stage.name} order")
    stream = batches(
        shards, batch=config.batch, seed=order, start=images, rank=world.rank, world_size=world.size, flip=True
    )
    engine.train()
    while images < total:
        # Stop or save, at a step boundary, on all ranks alike.
        stop = watch.stop_due()
        if stop or crossed(images, config.batch, every=config.checkpoint_images):
            state.save(images)
        if stop:
            raise watch.stopped()

        # A batch, augmented by numbers drawn per image from (seed, position).
        batch = next(stream)
        x = to_unit_range(batch.images, device=world.device)
        share = config.batch // world.size
        first = batch.position + world.rank * share
        x = augment(x, draw(range(first, first + share), seed=order).to(world.device), config=config.augment)
        if x.shape[-1] != config.recognition.image_size:
            x = resize(x, size=config.recognition.image_size)
        y = labels[torch.from_numpy(batch.indices)].to(world.device)

        # One step of the margin softmax.
        with world.autocast():
            logits = engine(x, y)
        loss = F.cross_entropy(logits, y)
        epoch = images // (steps_per_epoch * config.batch)
        drops = sum(epoch >= after for after in config.drop_after_epochs)
        for group in optimizer.param_groups:
            group["lr"] = config.learning_rate * 0.1**drops
        engine.backward(loss)
        engine.step()
        images += config.batch

        value = watch.loss(loss, images=images)
        if metrics and crossed(images, config.batch, every=config.log_images):
            # The margin lowers the true class's logit: this is a lower bound of the training accuracy.
            hits = (logits.argmax(1) == y).float().mean().item()
            metrics.write({"images": images, "loss": value, "accuracy_with_margin": hits})

    stream.close()
    state.save(images)
    if world.rank == 0:
        work.publish(WEIGHTS, recognition_bytes(backbone, config.recognition))
        work.done(
            images=images,
            counts={"trained": images},
            earlier_seconds=state.earlier_seconds,
            figures={
                "classes": classes,
                "images_in_set": len(shards),
                "parameters": sum(parameter.numel() for parameter in backbone.parameters()),
                "world_size": world.size,
                "resumed_after_images": start_images,
            },
        )


def draw(positions: range, *, seed: int) -> torch.Tensor:
    """The augmentation's uniform numbers (N, DRAWS) of the images at these positions, from (seed, position) alone."""
    import torch

    from cemiface.augment import DRAWS

    generators = [torch.Generator().manual_seed(derive(seed, "augmentation", position)) for position in positions]
    return torch.stack([torch.rand(DRAWS, generator=generator) for generator in generators])


STAGE = Stage(
    name=NAME,
    title="the face recognition net, on the synthetic faces",
    config=TrainRecognition,
    needs=lambda run: needs(run, name=NAME),
    files=lambda run: imported(run, name=NAME),
    plan=plan,
    run_rank=run_rank,
    distributed=True,
)

EMBEDDER_STAGE = Stage(
    name=TRAINED_HERE,
    title="E_id, trained on the real faces (where the config brings no weights)",
    config=TrainEmbedder,
    needs=lambda run: needs(run, name=TRAINED_HERE),
    files=lambda run: imported(run, name=TRAINED_HERE),
    plan=plan,
    run_rank=run_rank,
    distributed=True,
)
