"""Train-recognition: a face recognition net with a margin head, on real or synthetic tars or both, through DeepSpeed.

The same code trains E_id on the real faces where the user brings no weights (the stage train-embedder).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from pydantic import Field, StringConstraints

from jobs.embedder import CLASSIFIER, TRAINED_HERE, WEIGHTS
from jobs.recipe import Place, Recipe, train
from jobs.registry import SET_NAME, SETS, registered, tars_of
from jobs.seeds import derive
from jobs.shard_faces import REAL
from jobs.stage import Run, Stage, Unit
from shards.errors import DataError
from shards.manifest import NAME as MANIFEST
from slurm.files import sha256_of

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from jobs.rank import Rank, Work
    from shards.shard_set import ShardSet

NAME = "train-recognition"
MADE_HERE = {REAL: "shard", "synthetic": "generate"}  # sets of this run, and the stages that make them
# "real", "synthetic", or the name of an imported set
Sets = tuple[Annotated[str, StringConstraints(pattern=rf"^{SET_NAME.pattern}$")], ...]


class TrainRecognition(Recipe):
    sets: Sets = Field(("synthetic",), min_length=1)  # what it is trained on


class TrainEmbedder(TrainRecognition):
    sets: Sets = Field(("real",), min_length=1, max_length=1)


def tars(run: Run, *, kind: str) -> list[Path]:
    """The tars of the real training faces, of the synthetic ones, or of an imported set."""
    if kind not in MADE_HERE:
        return tars_of(kind, sets=run.path(SETS))
    return run.outputs("shard" if kind == REAL else "generate", prefix=f"{kind}-", suffix=".tar")


def faces_of(run: Run, *, kinds: Sequence[str]) -> ShardSet:
    """The faces of these kinds as one set, with contiguous labels over all of them.

    Raises:
        DataError: a real person has the name of a synthetic one: the two would be trained as one.
    """
    from shards.shard_set import ShardSet

    faces = ShardSet([path for kind in kinds for path in tars(run, kind=kind)])
    if len(set(kinds)) > 1:
        apart = sum(len(ShardSet(tars(run, kind=kind)).classes) for kind in set(kinds))
        if apart != len(faces.classes):
            raise DataError(
                f"sets: got {apart - len(faces.classes)} identities of one name in {' and '.join(kinds)}; "
                "allowed: different names; rename the folders of the real faces"
            )
    return faces


def needs(run: Run, *, name: str) -> tuple[str, ...]:
    return tuple(MADE_HERE[kind] for kind in run.section(name).sets if kind in MADE_HERE)


def imported(run: Run, *, kinds: Sequence[str]) -> dict[str, str]:
    """The imported ones among sets, by the hashes of their manifests, which hold those of all files."""
    others = [kind for kind in kinds if kind not in MADE_HERE]
    return {f"sets.{kind}": sha256_of(registered(kind, sets=run.path(SETS)) / MANIFEST) for kind in others}


def plan(run: Run) -> list[Unit]:
    return [{"weights": WEIGHTS}]


def run_rank(run: Run, rank: Rank) -> None:
    for work in rank.remaining():
        _train(run, rank, work)


def _train(run: Run, rank: Rank, work: Work) -> None:
    from cemiface.recognition import recognition_bytes
    from shards.classifier import classifier_bytes

    config: TrainRecognition = run.section(rank.stage.name)
    faces = faces_of(run, kinds=config.sets)
    place = Place(checkpoints=rank.folder.checkpoints, metrics=rank.folder.metrics, key=rank.fingerprint(work.unit))
    trained = train(config, faces, seed=derive(run.seed, rank.stage.name), rank=rank, place=place)
    if trained.world_rank != 0:
        return
    work.publish(WEIGHTS, recognition_bytes(trained.net, config.recognition))
    if rank.stage.name == TRAINED_HERE:  # the paper takes its weight rows as the centers of the real identities
        assert trained.centers is not None
        work.publish(CLASSIFIER, classifier_bytes(trained.centers.numpy(), classes=faces.classes))
    work.done(
        images=trained.images,
        counts={"trained": trained.images},
        earlier_seconds=trained.earlier_seconds,
        figures={
            "classes": len(faces.classes),
            "images_in_set": len(faces),
            "parameters": sum(parameter.numel() for parameter in trained.net.parameters()),
            "world_size": trained.world_size,
            "resumed_after_images": trained.resumed_after,
        },
    )


STAGE = Stage(
    name=NAME,
    title="the face recognition net, on the synthetic faces",
    config=TrainRecognition,
    needs=lambda run: needs(run, name=NAME),
    files=lambda run: imported(run, kinds=run.section(NAME).sets),
    plan=plan,
    run_rank=run_rank,
    distributed=True,
)

EMBEDDER_STAGE = Stage(
    name=TRAINED_HERE,
    title="E_id, trained on the real faces (where the config brings no weights)",
    config=TrainEmbedder,
    needs=lambda run: needs(run, name=TRAINED_HERE),
    files=lambda run: imported(run, kinds=run.section(TRAINED_HERE).sets),
    plan=plan,
    run_rank=run_rank,
    distributed=True,
)
