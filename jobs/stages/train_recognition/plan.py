"""Train-recognition: a face recognition net with a margin head, on real or synthetic tars or both, through DeepSpeed.

The same code trains E_id on the real faces where the user brings no weights (the stage train-embedder).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial

from pydantic import Field

from jobs.frame.products import EMBEDDER, WEIGHTS
from jobs.frame.run import Run
from jobs.frame.stage import Stage
from jobs.frame.unit import Unit
from jobs.stages.shared.known_early import check_batch, check_training
from jobs.stages.shared.sets import Sets, imported, makers_of
from jobs.training.recipe import Recipe

NAME = "train-recognition"


class TrainRecognition(Recipe):
    """The recipe and the training sets."""

    sets: Sets = Field(
        ("synthetic",),
        min_length=1,
        description="What the net is trained on: real, synthetic, run:NAME (the set of another run), or names of "
        "imported sets; several are joined.",
    )


class TrainEmbedder(TrainRecognition):
    """The recipe of E_id and its training set."""

    sets: Sets = Field(
        ("real",),
        min_length=1,
        max_length=1,
        description="What E_id is trained on: real, run:NAME, or the name of an imported set.",
    )


def needs(run: Run, *, name: str) -> tuple[str, ...]:
    return tuple(makers_of(run, run.section(TrainEmbedder if name == EMBEDDER else TrainRecognition).sets))


@dataclass(frozen=True, kw_only=True)
class TrainingUnit(Unit):
    """A training, named by the file of weights it ends in."""

    weights: str


def _check_launch(run: Run, *, name: str) -> None:
    config = run.section(TrainEmbedder if name == EMBEDDER else TrainRecognition)
    check_training(run, name, config, kinds=config.sets)


def _check_faces(run: Run, counts: Mapping[str, int], *, name: str) -> None:
    config = run.section(TrainEmbedder if name == EMBEDDER else TrainRecognition)
    check_batch(run, name, config.batch, kinds=config.sets, counts=counts)


def plan(run: Run) -> list[TrainingUnit]:
    return [TrainingUnit(weights=WEIGHTS)]


STAGE = Stage(
    unit=TrainingUnit,
    name=NAME,
    title="the face recognition net, on the synthetic faces",
    config=TrainRecognition,
    needs=lambda run: needs(run, name=NAME),
    files=lambda run: imported(run, kinds=run.section(TrainRecognition).sets),
    check_launch=partial(_check_launch, name=NAME),
    check_faces=partial(_check_faces, name=NAME),
    plan=plan,
    work="jobs.stages.train_recognition.work",
    distributed=True,
)

EMBEDDER_STAGE = Stage(
    unit=TrainingUnit,
    name=EMBEDDER,
    title="E_id, trained on the real faces (where the config brings no weights)",
    config=TrainEmbedder,
    needs=lambda run: needs(run, name=EMBEDDER),
    files=lambda run: imported(run, kinds=run.section(TrainEmbedder).sets),
    check_launch=partial(_check_launch, name=EMBEDDER),
    check_faces=partial(_check_faces, name=EMBEDDER),
    plan=plan,
    work="jobs.stages.train_recognition.work",
    distributed=True,
)
